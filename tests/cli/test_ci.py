"""What GitHub Actions and GitLab are told; and that Packer's text is never a command to them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer_fork.terminal import clean
from packer_fork.views import github
from tests.conftest import Cli, Project, Result
from tests.support.templates import NULL_AND_FILE

pytestmark = pytest.mark.usefixtures("packer")

ONE_FAILS = """
    source "null" "bad" { communicator = "none" }
    source "file" "good" {
      content = "hello"
      target  = "good.txt"
    }
    build {
      sources = ["null.bad", "file.good"]
      provisioner "shell-local" {
        only   = ["null.bad"]
        inline = ["echo '100%, | <b>`'; exit 3"]
      }
    }
"""

ATTACK = r"""
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" {
        inline_shebang = "/bin/sh"
        inline = [
          "printf '::error::a\\n  ::set-output name=x::b\\n\\r::warning::c\\n'",
          "printf 'text ##[error]d\\n\\033[0m::add-mask::e\\n:::error::f\\n###[error]g\\n'",
          "printf '::error::h\\n##[error]i\\n' >&2",
          "printf '::error::j\\nlast::error::k\\n' >&2; exit 1",
        ]
      }
    }
"""

COMMANDS = (
    "add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|notice|remove-matcher"
    "|save-state|set-env|set-output|stop-commands|warning"
)
NEWER = re.compile(rf"\s*::({COMMANDS})( [^\n]*?)?::", re.IGNORECASE)
OLDER = re.compile(rf"##\[({COMMANDS})( [^\]\n]*)?\]", re.IGNORECASE)


def commands(text: str) -> list[str]:
    """Lines that GitHub's runner obeys, by its own rules."""
    lines = re.split(r"\r\n|\r|\n", text)
    return [line for line in lines if NEWER.match(line) or OLDER.search(line)]


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a step on GitHub Actions."""
    files = {name: tmp_path / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for file in files.values():
        file.write_text("before\n", encoding="utf-8")
    return {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        **{name: str(path) for name, path in files.items()},
    }


def outputs(job: dict[str, str]) -> dict[str, str]:
    """As the runner reads the file: later values replace earlier ones."""
    lines = iter(Path(job["GITHUB_OUTPUT"]).read_text(encoding="utf-8").splitlines())
    assert next(lines) == "before"
    return dict(_values(lines))


def _values(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, end = line.split("<<")
        value = []
        while (part := next(lines)) != end:
            value.append(part)
        yield name, "\n".join(value)


def summary(job: dict[str, str]) -> str:
    return Path(job["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")


def build(cli: Cli, project: Project, template: str, job: dict[str, str], *args: str) -> Result:
    project.write("t.pkr.hcl", template)
    return cli("build", *args, "t.pkr.hcl", env=job)


def test_outputs_and_summary(cli: Cli, project: Project, job: dict[str, str]) -> None:
    result = build(cli, project, NULL_AND_FILE, job)
    assert result.rc == 0, result
    assert commands(result.out + result.err) == []
    found = outputs(job)
    assert found.keys() == {"artifacts", "artifact_null_n", "artifact_file_f"}
    assert found["artifact_file_f"] == "File"
    (artifact,) = json.loads(found["artifacts"])["file.f"]
    assert artifact["builder_id"] == "packer.file"
    assert artifact["files"][0]["path"] == str(project.root / "out.txt")
    shown = summary(job)
    assert shown.startswith("before\n### packer-fork: t\\.pkr\\.hcl\n")
    assert re.search(r"^\| file\\\.f \| complete \| .+ \| File \|$", shown, re.MULTILINE)


def test_up_to_date_builds_have_their_outputs_too(
    cli: Cli, project: Project, job: dict[str, str]
) -> None:
    build(cli, project, NULL_AND_FILE, job)
    first = outputs(job)
    Path(job["GITHUB_OUTPUT"]).write_text("before\n", encoding="utf-8")
    again = build(cli, project, NULL_AND_FILE, job)
    assert "everything is up to date" in again.err
    assert outputs(job) == first
    assert "| up to date |" in summary(job)


def test_a_failed_build_is_an_annotation(cli: Cli, project: Project, job: dict[str, str]) -> None:
    result = build(cli, project, ONE_FAILS, job)
    assert result.rc == 1
    (line,) = commands(result.err)
    assert line.startswith("::error title=null.bad%3A failed::Script exited with non-zero")
    assert commands(result.out) == []
    assert outputs(job).keys() == {"artifacts", "artifact_file_good"}
    first, second = summary(job).splitlines()[-3:-1]
    assert first.startswith("| null\\.bad | failed |")
    assert second.startswith("| file\\.good | complete |")


def test_what_never_ran_is_an_annotation(cli: Cli, job: dict[str, str]) -> None:
    result = cli("build", "missing.pkr.hcl", env=job)
    assert result.rc == 14
    expected = "::error title=packer-fork::there is no template missing.pkr.hcl"
    assert commands(result.err) == [expected]
    assert json.loads(outputs(job)["artifacts"]) == {}


@pytest.mark.parametrize("flags", [[], ["-machine-readable"], ["--json"]])
def test_packers_text_is_no_command(
    cli: Cli, project: Project, job: dict[str, str], flags: list[str]
) -> None:
    result = build(cli, project, ATTACK, job, *flags)
    assert result.rc == 1
    assert commands(result.out) == []
    (ours,) = commands(result.err)
    assert ours.startswith("::error title=null.n%3A failed::")
    if not flags:
        for letter in "abcdefghijk":
            assert re.search(rf"(:|\]){letter}\b", result.out + result.err), letter


@pytest.mark.parametrize("words", [["build"], ["build", "--json"], ["plan"], ["plan", "--json"]])
def test_a_refusal_of_packers_is_no_command(
    cli: Cli, project: Project, job: dict[str, str], words: list[str]
) -> None:
    script = r"a\n::error::b\n##[error]c"
    step = f'provisioner "shell-local" {{ script = "{script}" }}'
    source = 'source "null" "n" { communicator = "none" }'
    project.write("t.pkr.hcl", f'{source}\nbuild {{\n  sources = ["null.n"]\n  {step}\n}}\n')
    result = cli(*words, "t.pkr.hcl", env=job)
    assert result.rc == 14
    assert "Bad script" in result.err
    assert commands(result.out) == []
    ours = [line.partition(":%0A")[0] for line in commands(result.err)]
    assert ours == ["::error title=packer-fork::Packer refuses t.pkr.hcl"] * ("build" in words)


def test_elsewhere_the_text_stays_as_it_is(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ATTACK)
    result = cli("build", "t.pkr.hcl")
    assert "text ##[error]d" in result.out
    assert "::error" not in result.err.replace("::error::", "")


def test_a_report_that_cannot_be_written_ends_nothing(
    cli: Cli, project: Project, job: dict[str, str]
) -> None:
    job["GITHUB_STEP_SUMMARY"] = str(project.root)
    result = build(cli, project, NULL_AND_FILE, job)
    assert result.rc == 0
    assert "warning: the CI report cannot be written" in result.err


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(":# \t[]\n\u00a0\u2028eror-"), max_size=30))
def test_no_text_stays_a_command(text: str) -> None:
    safe = github.neutral(f"{text}::error::x ##[error]y")
    assert commands(safe) == []
    assert safe.replace(" ", "") == f"{text}::error::x##[error]y".replace(" ", "")


def test_text_without_commands_is_not_touched() -> None:
    text = "module::name a:b: ::\n# [x] ## title\n"
    assert github.neutral(text) == text


def rendered(markdown: str) -> str:
    """What CommonMark shows of a text whose punctuation is escaped."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_text_in_a_table_is_nothing_but_text(text: str) -> None:
    cell = github._markdown(text)
    assert "\n" not in cell
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<&`*_\[\]]", re.sub(r"\\[^\\]", "", cell))
    visible = " ".join(clean(text).split())
    assert rendered(cell) == visible


SECTION = re.compile(r"\x1b\[0Ksection_(start|end):(\d+):([a-zA-Z0-9_.-]+)\r\x1b\[0K(.*)")


def test_gitlab_has_a_section_for_the_run(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ATTACK)
    running = cli.start("build", "t.pkr.hcl", env={"CI": "true", "GITLAB_CI": "true"})
    assert running.wait().rc == 1
    told = running.stderr.read_bytes().decode()
    start, end = SECTION.findall(told)
    assert (start[0], end[0]) == ("start", "end")
    assert start[2] == end[2]
    assert start[3] == "packer-fork run 1 of t.pkr.hcl"
    assert int(start[1]) <= int(end[1])
    assert "run 1 failed" in told.partition("section_end")[2]
    assert b"\x1b" not in running.stdout.read_bytes()


def dotenv(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())


def test_a_dotenv_report_names_artifacts(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    report = project.write("build.env", "OTHER=1\nPACKER_ARTIFACT_FILE_F=old\n")
    environment: dict[str, Any] = {"GITLAB_CI": "true", "PACKER_FORK_DOTENV": "build.env"}
    for _ in range(2):
        assert cli("build", "t.pkr.hcl", env=environment).rc == 0
        assert dotenv(report) == {
            "OTHER": "1",
            "PACKER_ARTIFACT_FILE_F": "File",
            "PACKER_ARTIFACT_NULL_N": "Null",
        }
