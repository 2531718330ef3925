"""README.md is a contract: what it says of commands, codes, settings and documents is so.

Tables are found by the first words of their header; a name counts as documented where
it stands in backticks.
"""

import inspect
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer.main
from msgspec import Struct

from packer_fork import codec, config, errors, events, locks, model
from packer_fork.cli.app import app
from packer_fork.manager import locate
from packer_fork.packer import flags
from packer_fork.stores.local import journal
from packer_fork.views.locks import Report
from tests.conftest import Cli, Project

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SIGNALLED = {129, 130, 143}
CODE = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"--?[a-z][a-z-]*")


class Section(NamedTuple):
    """A heading with what stands below it, up to the next of its level or above."""

    title: str
    text: str


def sections(level: int, text: str = README) -> Iterator[Section]:
    heading = re.compile(rf"^#{{{level}}} (.+)$", re.MULTILINE)
    higher = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE)
    for found in heading.finditer(text):
        end = higher.search(text, found.end())
        yield Section(found[1], text[found.end() : end.start() if end else None])


def section(title: str, level: int = 2) -> str:
    (found,) = (each.text for each in sections(level) if each.title == title)
    return found


def table(first_header: str, text: str) -> list[list[str]]:
    """The cells of the rows below the header that begins with `first_header`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows
    return rows


def names(cell: str) -> set[str]:
    return set(CODE.findall(cell))


def options_in(cell: str) -> set[str]:
    """``--state`` of `--state DIR`."""
    return {found[0] for name in names(cell) if (found := OPTION.match(name))}


def commands() -> dict[str, Any]:
    """Every command that does something, by its words; the program itself is ``""``."""
    program = typer.main.get_command(app)
    return {"": program, **dict(_below(program, ""))}


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        path = f"{words} {name}".strip()
        if hasattr(command, "commands"):
            yield from _below(command, path)
        else:
            yield path, command


def options_of(command: Any) -> set[str]:
    options = {name for param in command.params for name in param.opts if name.startswith("-")}
    return options - {"--help"}


def command_sections() -> dict[str, str]:
    """By the words of the command: ``state show`` of `packer-fork state show [TEMPLATE]`."""
    found = {}
    for title, text in sections(3, section("Commands")):
        words = [word for word in title.strip("`").split()[1:] if word.islower()]
        found[" ".join(word for word in words if not word.startswith("-"))] = text
    return found


def test_every_command_is_documented_and_no_other() -> None:
    assert command_sections().keys() == commands().keys()


@pytest.mark.parametrize("words", commands())
def test_every_option_is_documented_and_no_other(words: str) -> None:
    rows = table("option", command_sections()[words])
    documented = set().union(*(options_in(row[0]) for row in rows))
    assert documented == options_of(commands()[words])


def test_every_flag_of_packer_is_documented_and_no_other() -> None:
    rows = table("flag of Packer", command_sections()["build"])
    documented = set().union(*(options_in(row[0]) for row in rows))
    assert documented == {f"-{name}" for name in flags._WITH_VALUE.keys() | flags._BOOLEAN}


def test_every_argument_is_documented() -> None:
    titles = [each.title for each in sections(3, section("Commands"))]
    for words, command in commands().items():
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        expected = " ".join(["packer-fork", words, *(param.metavar for param in arguments)])
        assert any(title.strip("`").startswith(expected) for title in titles), expected


def test_every_exit_code_is_documented_and_no_other() -> None:
    documented = [int(n) for row in table("code", section("Exit codes")) for n in row[0].split(",")]
    known = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert sorted(documented) == sorted(known | SIGNALLED)


def test_every_setting_is_documented_with_its_default(tmp_path: Path) -> None:
    rows = table("setting in packer-fork.toml, with its default", section("Settings"))
    defaults = [line for row in rows for line in names(row[0])]
    (tmp_path / config.FILE_NAME).write_text("\n".join(defaults), encoding="utf-8")
    loaded, origins = config.load(tmp_path, {}, {})
    assert loaded == config.Settings()
    assert {setting.origin for setting in origins.values()} == {str(tmp_path / config.FILE_NAME)}


def test_every_setting_is_documented_with_its_flag_and_variable() -> None:
    given = options_of(commands()["build"])
    for row in table("setting in packer-fork.toml, with its default", section("Settings")):
        (setting,) = names(row[0])
        name = setting.partition(" ")[0]
        flag = f"--{name.replace('_', '-')}"
        assert names(row[1]) == ({flag} & given)
        (variable,) = names(row[2])
        _, origins = config.load(None, {variable: _other_value(name)}, {})
        assert origins[name].origin == variable


def _other_value(name: str) -> str:
    return {"on_wrapper_death": "finish", "abandoned": "block"}.get(name, "1")


DOCUMENTS = [
    value
    for module in (model, locks)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, Struct) and value.__module__ == module.__name__
]
INTERNAL = {"Document", "Draft", "Wait", "LockStatus"}
"""Never stored or shown as they are; what of LockStatus an event shows is told there."""


def documented_keys() -> dict[str, set[str]]:
    rows = table("document", section("JSON"))
    return {name: names(row[1]) for row in rows for name in names(row[0])}


def test_every_document_is_documented_and_no_other() -> None:
    assert documented_keys().keys() == {"Report", *(each.__name__ for each in DOCUMENTS)} - INTERNAL


@pytest.mark.parametrize("document", [Report, *DOCUMENTS], ids=lambda each: each.__name__)
def test_every_key_of_a_document_is_documented_and_no_other(document: type[Struct]) -> None:
    if document.__name__ in INTERNAL:
        assert document.__name__ not in documented_keys()
    else:
        assert documented_keys()[document.__name__] == set(document.__struct_fields__)


def test_every_event_is_documented_and_no_other() -> None:
    rows = table("event", section("JSON"))
    documented = {name: names(row[1]) for row in rows for name in names(row[0])}
    known = {
        str(each.__struct_config__.tag): set(each.__struct_fields__)
        for each in events.Event.__subclasses__()
    }
    del known["machine_line"]  # JSON has the texts instead
    assert documented == known


def test_every_status_and_verdict_is_documented() -> None:
    builds = set().union(*(names(row[0]) for row in table("status", section("Commands"))))
    assert builds == {str(each) for each in model.BuildStatus}
    verdicts = [names(row[0]) for row in table("verdict", section("Locks"))]
    assert verdicts == [{str(each)} for each in locks.Verdict]
    rows = {row[0]: names(row[2]) for row in table("document", section("JSON"))}
    assert {str(each) for each in model.RunStatus} <= rows["`Run`"]
    assert {str(each) for each in (*model.StepStatus, *model.KnownBy)} <= rows["`Step`"]


def examples() -> Mapping[str, Any]:
    """The JSON below each heading of the section on JSON that has some."""
    return {
        title: msgspec.json.decode(found[1])
        for title, text in sections(3, section("JSON"))
        if (found := re.search(r"```json\n(.*?)```", text, re.DOTALL))
    }


def test_the_examples_of_json_are_what_they_say() -> None:
    shown = examples()
    report = shown["`lock status --json`"]
    assert list(report) == list(Report.__struct_fields__)
    msgspec.convert(report, Report)
    state = shown["`state show --json`"]
    decoded = msgspec.json.decode(msgspec.json.encode(state), type=model.State)
    assert [codec.decode_build(raw).name for raw in decoded.builds.values()] == ["file.web"]


def test_sizes_and_limits_are_those_of_the_code() -> None:
    files, limits = section("Files, to the byte"), section("Limits")
    assert f"{journal.COMPRESSED_SIZE:,} bytes" in files
    assert f"{codec.WITNESS_SIZE} bytes in one line" in files
    assert f"no longer than {journal.REST_SIZE >> 20} MiB" in files
    assert f"nested {model.MAX_METADATA_DEPTH} levels deep" in limits
    assert f"up to {journal.MAX_STATE_SIZE >> 30} GiB" in limits
    kept = section("Where states are kept")
    assert f"at most {locate._DEEPEST} folders deep" in re.sub(r"\s+", " ", kept)
    assert names(kept) >= locate._NOT_SEARCHED


def command_lines() -> list[str]:
    """Every command line of packer-fork in the text and in what it shows."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    spans = (found for found in CODE.findall(text) if found.startswith("packer-fork "))
    shown = re.findall(r"^\$ (packer-fork .+)$", README, re.MULTILINE)
    return sorted({*spans, *shown})


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_in_the_text_exists(line: str) -> None:
    _, *words = [word.strip("[]") for word in shlex.split(line)]
    known = {name: command for name, command in commands().items() if name}
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), "")
    assert name or words == ["--version"], f"no such command: {line}"
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= options_of(known.get(name, commands()[""]))


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", each.title.lower()).replace(" ", "-")
        for level in (2, 3)
        for each in sections(level)
    }
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (Path(__file__).parent.parent / target).exists(), target


def test_rooms_on_the_map_exist() -> None:
    package = Path(config.__file__).parent
    for row in table("room", section("Architecture")):
        folder = package
        for name in CODE.findall(row[0]):
            folder = package / name
            assert folder.exists(), name
        inside = set().union(*(names(cell) for cell in row[1:]))
        for name in (each for each in inside if re.fullmatch(r"[a-z]+/|\w+\.py", each)):
            assert (folder / name).exists(), name


VARYING = (
    (re.compile(r"\d+(\.\d+)? (s|min|h|d)( \d+ (s|min|h))?\b"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z"), "MOMENT"),
    (re.compile(r"\S+@[^\s,]+"), "USER@HOST"),
    (re.compile(r"serial \d+"), "serial N"),  # output that comes at once is committed at once
    (re.compile(r"/\S*/\.packer-fork/"), "/FOLDER/.packer-fork/"),
    (re.compile(r"\s+"), " "),
)


def lasting(text: str) -> list[str]:
    """Its lines without what differs from run to run."""
    lines = [line for line in text.splitlines() if line]
    for pattern, name in VARYING:
        lines = [pattern.sub(name, line).strip() for line in lines]
    return sorted(lines)


def transcript() -> list[tuple[list[str], str]]:
    """Each command of the transcript with what it printed."""
    found = re.search(r"<!-- transcript -->\n```console\n(.*?)```", README, re.DOTALL)
    assert found
    steps = re.split(r"^\$ packer-fork (.*)\n", found[1], flags=re.MULTILINE)
    return [(shlex.split(line), said) for line, said in zip(steps[1::2], steps[2::2], strict=True)]


@pytest.mark.usefixtures("packer")
def test_the_transcript_is_true(cli: Cli, project: Project) -> None:
    project.example("demo")
    steps = transcript()
    assert [arguments[0] for arguments, _ in steps] == ["build", "state", "lock"]
    for arguments, said in steps:
        result = cli(*arguments)
        assert result.rc == 0, result
        if arguments[0] == "build":  # of Packer's own words only ours are compared
            ours = "\n".join(line for line in said.splitlines() if line.startswith("packer-fork:"))
            assert lasting(result.err) == lasting(ours)
            assert "--> file.greeting: Stored file: greeting.txt" in said
            assert "--> file.greeting: Stored file: greeting.txt" in result.out
        else:
            assert lasting(result.out) == lasting(said)


def test_the_demo_runs_what_the_transcript_shows() -> None:
    script = (Path(__file__).parent.parent / ".ci" / "demo").read_text(encoding="utf-8")
    ran = re.findall(r"^run packer-fork (.*)$", script, re.MULTILINE)
    assert [shlex.join(arguments) for arguments, _ in transcript()] == ran
