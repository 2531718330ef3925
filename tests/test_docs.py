"""README.md and the docs are a contract: commands, codes, settings and documents are as documented.

Tables are found by the first words of their header; a name counts as documented where
it stands in backticks.
"""

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

import packer_fork
from packer_fork import config, errors, events, locks, model, responses, statistics
from packer_fork.cli import passthrough
from packer_fork.cli.help import search
from packer_fork.codec import statefile
from packer_fork.codec.builds import decode_build
from packer_fork.codec.witness import WITNESS_SIZE
from packer_fork.inputs import unknowns
from packer_fork.inputs.observation import Observation
from packer_fork.inputs.record import BuildInputs, TemplateInputs
from packer_fork.inputs.request import MAX_FILES
from packer_fork.manager import state_ref
from packer_fork.manager.build import results
from packer_fork.manager.state.artifacts import BuiltArtifacts
from packer_fork.packer import flags
from packer_fork.stores.local import journal
from packer_fork.template import contents, grammar
from packer_fork.views.history import VerifiedEntry
from packer_fork.views.locks import ParticipantReport, Report
from packer_fork.views.settings import Shown
from tests.support.commands import commands
from tests.support.docs import (
    CODE,
    DOCS,
    PAGES,
    ROOT,
    example,
    linked,
    names,
    options_in,
    section,
    sections,
    table,
)

SIGNALLED = {129, 130, 143}


def options_of(command: Any) -> set[str]:
    options = {name for param in command.params for name in param.opts if name.startswith("-")}
    return options - {"--help"}


def command_sections() -> dict[str, str]:
    """By the words of the command: ``state show`` of `packer-fork state show [TEMPLATE]`."""
    found = {}
    for title, _, text in sections(section("Commands")):
        words = [word for word in title.strip("`").split()[1:] if word.islower()]
        found[" ".join(word for word in words if not word.startswith("-"))] = text
    return found


def test_every_command_is_documented_and_no_other() -> None:
    assert command_sections().keys() == commands().keys()


@pytest.mark.parametrize("words", commands())
def test_every_option_is_documented_and_no_other(words: str) -> None:
    text = command_sections()[words]
    rows = table("option", text) if "| option |" in text else []
    documented = set().union(*(options_in(row[0]) for row in rows))
    assert documented == options_of(commands()[words])


def test_every_flag_of_packer_is_documented_and_no_other() -> None:
    rows = table("flag of Packer", command_sections()["build"])
    documented = set().union(*(options_in(row[0]) for row in rows))
    assert documented == {f"-{name}" for name in flags.FLAGS}


def test_every_argument_is_documented() -> None:
    titles = [each.title for each in sections(section("Commands"))]
    for words, command in commands().items():
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        expected = " ".join(["packer-fork", words, *(param.metavar for param in arguments)])
        assert any(title.strip("`").startswith(expected) for title in titles), expected


def test_every_command_that_is_handed_over_is_documented_and_no_other() -> None:
    (listed,) = re.findall(
        r"^ {6}(console .*)$", section("Move from packer to packer-fork"), re.MULTILINE
    )
    assert listed.split() == sorted(passthrough.PACKER_COMMANDS)


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
        assert names(row[1]) == ({flag, flag.removesuffix("s")} & given)
        for variable in names(row[2]):
            _, origins = config.load(None, {variable: _other_value(name)}, {})
            assert origins[name].origin == variable
        assert names(row[2]) or name == "artifact_check", "a table cannot be told in a variable"


def test_the_example_of_settings_is_valid(tmp_path: Path) -> None:
    text = example("settings")
    (tmp_path / config.FILE_NAME).write_text(text, encoding="utf-8")
    settings, _ = config.load(tmp_path, {}, {})
    assert settings.lock_timeout == 1800
    assert settings.artifact_check == {"mitchellh.amazonebs": ("./ami-exists",)}


def _other_value(name: str) -> str:
    others = {"on_wrapper_death": "finish", "on_lock_lost": "finish", "abandoned": "block"}
    return (others | {"observe": "off"}).get(name, "1")


DOCUMENTS = [
    value
    for module in (model, locks, responses, statistics)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, Struct) and value.__module__ == module.__name__
]
SHOWN: list[type[Struct]] = [
    Report,
    ParticipantReport,
    TemplateInputs,
    BuildInputs,
    Observation,
    events.BuildPlan,
    BuiltArtifacts,
    Shown,
    VerifiedEntry,
]
"""Documents that are defined where they are made."""

INTERNAL = {"Document", "PendingChange", "Wait", "LockStatus", "RecoverableState"}
"""Never stored or shown as they are; what of LockStatus an event shows is told there."""


def documented_keys() -> dict[str, set[str]]:
    rows = table("document", section("JSON output"))
    return {name: names(row[1]) for row in rows for name in names(row[0])}


def test_every_document_is_documented_and_no_other() -> None:
    known = {each.__name__ for each in (*SHOWN, *DOCUMENTS)}
    assert documented_keys().keys() == known - INTERNAL


@pytest.mark.parametrize("document", [*SHOWN, *DOCUMENTS], ids=lambda each: each.__name__)
def test_every_key_of_a_document_is_documented_and_no_other(document: type[Struct]) -> None:
    if document.__name__ in INTERNAL:
        assert document.__name__ not in documented_keys()
    else:
        assert documented_keys()[document.__name__] == set(document.__struct_fields__)


def test_every_event_is_documented_and_no_other() -> None:
    rows = table("event", section("JSON output"))
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
    titles = [each.title for each in sections(section("Free a stuck lock"))]
    statuses = [title for title in titles if title.startswith("The lock is ")]
    assert statuses == [f"The lock is `{each}`" for each in locks.Status]
    rows = {row[0]: names(row[2]) for row in table("document", section("JSON output"))}
    assert {str(each) for each in model.RunStatus} <= rows["`Run`"]
    assert {str(each) for each in (*model.StepStatus, *model.KnownBy)} <= rows["`Step`"]
    assert {str(each) for each in events.Action} <= rows["`BuildPlan`"]


def test_what_cannot_be_known_is_documented() -> None:
    text = section("How input files are found")
    rows = [names(row[0]) for row in table("X", text)]
    assert set(unknowns.REMOTE_FUNCTIONS) in rows
    assert {f"more than {MAX_FILES} files"} in rows
    decision = " ".join(section("What is rebuilt, and why").split())
    assert f"among the last {results.KEPT} complete runs" in decision


def test_every_function_of_the_python_api_is_documented_and_no_other() -> None:
    rows = table("function", section("Call packer-fork from Python"))
    documented = {name.partition("(")[0] for row in rows for name in names(row[0])}
    assert documented == set(packer_fork.__all__) - {"__version__"}
    for row in rows:
        (signature,) = names(row[0])
        name, _, listed = signature.rstrip(")").partition("(")
        known = inspect.signature(getattr(packer_fork, name)).parameters.values()
        assert re.findall(r"\*{0,2}\w+(?==|,|$)", listed.replace("False", "")) == [
            str(each).partition(":")[0] for each in known
        ]


def test_every_input_and_output_of_the_action_is_documented_and_no_other() -> None:
    action = (ROOT / ".github/actions/packer-fork/action.yml").read_text(encoding="utf-8")
    for word in ("input", "output"):
        (block,) = re.findall(rf"^{word}s:\n((?:(?:  .*)?\n)+)", action, re.MULTILINE)
        known = set(re.findall(r"^  ([a-z-]+):", block, re.MULTILINE))
        rows = table(word, section("Run builds in GitHub Actions"))
        assert set().union(*(names(row[0]) for row in rows)) == known


def test_the_examples_of_json_are_what_they_say() -> None:
    report = msgspec.json.decode(example("lock json"))
    assert list(report) == list(Report.__struct_fields__)
    msgspec.convert(report, Report)
    state = msgspec.json.decode(example("state json"), type=model.State)
    assert [decode_build(raw).name for raw in state.builds.values()] == ["file.web"]


def test_sizes_and_limits_are_those_of_the_code() -> None:
    files, limits = (" ".join(section(each).split()) for each in ("File formats", "Known limits"))
    assert f"{journal.COMPRESSED_SIZE:,} bytes" in files
    assert f"{WITNESS_SIZE} bytes in one line" in files
    assert f"no longer than {journal.REST_SIZE >> 20} MiB" in files
    assert f"nested {model.MAX_METADATA_DEPTH} levels deep" in limits
    assert f"up to {statefile.MAX_SIZE >> 30} GiB" in limits
    assert f"HCL is read up to {contents.MAX_SOURCE >> 20} MiB" in limits
    assert grammar.MAX_SECONDS == 1
    assert f"may have {config.MAX_FILE >> 10} KiB" in limits
    kept = section("Where state is stored")
    assert f"at most {state_ref._DEEPEST} folders deep" in " ".join(kept.split())
    assert names(kept) >= state_ref._NOT_SEARCHED


def command_lines() -> list[str]:
    """Every command line of packer-fork in the text and in what it shows."""
    text = re.sub(r"^```.*?^```", "", DOCS, flags=re.DOTALL | re.MULTILINE)
    spans = (found for found in CODE.findall(text) if found.startswith("packer-fork "))
    shown = re.findall(r"^\$ (packer-fork .+)$", DOCS, re.MULTILINE)
    return sorted({*spans, *shown})


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_in_the_text_exists(line: str) -> None:
    _, *words = [word.strip("[]") for word in shlex.split(line, comments=True)]
    if words[0] in passthrough.PACKER_COMMANDS:
        return
    known = {name: command for name, command in commands().items() if name}
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), "")
    assert name or words == ["--version"], f"no such command: {line}"
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    of_packer = {word[1:].partition("=")[0] for word in words if re.match(r"-[a-z]", word)}
    assert of_packer <= flags.FLAGS.keys()
    assert given <= options_of(known.get(name, commands()[""]))


SEARCHED = {
    "exclude a variable": "control-rebuilds",
    "exclude files": "control-rebuilds",
    "force a rebuild": "control-rebuilds",
    "latest AMI": "track-downloads",
    "base image": "track-downloads",
    "S3": "share-state",
    "etcd": "share-state",
    "Consul": "share-state",
    "stuck lock": "stuck-lock",
    "orphaned": "stuck-lock",
    "abandoned": "stuck-lock",
    "force-unlock": "stuck-lock",
    "CI cache": "github",
    "GitHub Actions": "github",
    "GitLab": "gitlab",
    "Jenkins": "other-ci",
    "Buildkite": "other-ci",
    "cron": "other-ci",
    "checksum": "track-downloads",
    "macOS": "install",
    "Windows": "install",
    "shell completion": "install",
    "cancel": "signals",
    "Ctrl-C": "signals",
    "retry": "retry",
    "leaked instances": "retry",
    "secrets": "masking",
    "rollback": "roll-back",
    "backup": "manage-state",
    "migrate": "manage-state",
    "disk space": "manage-state",
    "exit code": "exit-codes",
    "metrics": "prometheus",
    "alerts": "prometheus",
    "matrix": "workspaces",
    "branch": "workspaces",
    "AMI": "terraform",
    "what is rebuilt": "what-is-rebuilt",
    "unverified": "results",
    "damaged": "damaged-state",
    "crashed": "recovery",
    "network file systems": "limits",
    "environment variable": "settings",
    "disk was full": "recovery",
    "lock-timeout": "locks",
    "queue": "locks",
    "parallel": "many-machines",
    "statistics": "prometheus",
    "TLS": "share-state",
    "credentials": "share-state",
    "NFS": "limits",
    "containers": "limits",
    "upgrade": "install",
    "uninstall": "install",
    "log": "retry",
    "debug": "retry",
    "manifest": "terraform",
    "script": "terraform",
}
"""What people search for, and the page that must come up."""


@pytest.mark.parametrize("words", SEARCHED)
def test_what_people_search_for_is_in_a_heading_or_first_paragraph(words: str) -> None:
    assert SEARCHED[words] in search(words)


@pytest.mark.parametrize(
    "page", [path for path in PAGES if path.stem != "README"], ids=lambda path: path.stem
)
def test_a_page_begins_with_its_title_and_says_whom_it_is_for(page: Path) -> None:
    title, blank, first = PAGES[page].split("\n")[:3]
    assert re.fullmatch(r"# \S.*", title)
    assert not blank
    assert first.startswith("This page is for you if ")


def anchors(page: Path) -> set[str]:
    return {
        re.sub(r"[^\w -]", "", each.title.lower()).replace(" ", "-")
        for each in sections(PAGES[page])
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        aim = linked(page, name) if name else page
        assert aim.exists(), target
        assert not anchor or anchor in anchors(aim), target


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


def test_every_class_that_does_something_is_said_to_be_safe_or_not() -> None:
    rows = table("class", section("Architecture"))
    documented = set().union(*(names(row[0]) for row in rows))
    known = set()
    for path in Path(config.__file__).parent.rglob("*.py"):
        classes = re.findall(r"^class ([A-Z]\w+)(?:\(([^)]*))?", path.read_text(), re.MULTILINE)
        known |= {name for name, bases in classes if not PASSIVE.search(bases)}
    assert documented == known


PASSIVE = re.compile(
    r"Struct|StrEnum|Document|Event|NamedTuple|Options|Protocol|Error|Exception|RecoverableState"
)
"""Bases of classes whose objects do not change."""
