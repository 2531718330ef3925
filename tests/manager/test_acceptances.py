"""``packer validate`` runs beside the other questions, and its answer is used or dropped."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork import processes
from packer_fork.errors import TemplateError
from packer_fork.manager.build import acceptance, prepare
from packer_fork.manager.build.acceptance import Question
from packer_fork.manager.build.prepare import Acceptances, Prepared
from packer_fork.manager.state_ref import find_template as template_at
from packer_fork.packer import program
from packer_fork.packer.flags import PackerFlags, take
from packer_fork.packer.program import Program
from packer_fork.template import reader
from tests.conftest import Project, eventually

TWO = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build { sources = ["null.a", "null.b"] }
"""


@pytest.fixture
def template(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(project.root)
    yield project.write("t.pkr.hcl", TWO)
    assert not processes.marked("MARK", str(project.root)), "a Packer was left behind"


def scripted(project: Project, packer: Path, *cases: str) -> Program:
    """The real Packer behind a script that does something else in these cases."""
    text = f'#!/bin/sh\ncase $1 in\n{"".join(cases)}esac\nexec {packer} "$@"\n'
    script = project.write("bin/packer", text)
    script.chmod(0o755)
    found = program.find(str(packer))
    return Program(str(script), found.version, found.version_text)


def ask(project: Project, packer: Program, flags: PackerFlags = PackerFlags()) -> Prepared:  # noqa: B008
    environ = {**os.environ, "MARK": str(project.root)}
    parsed = reader.read("t.pkr.hcl", ())
    return prepare.ask(parsed, packer, flags, environ, validates=True)


def refused(prepared: Prepared, names: tuple[str, ...] | None, *words: str) -> object:
    flags, _ = take(words)
    environ = dict(os.environ)
    template = template_at("t.pkr.hcl")
    asked = Question(template=template, flags=flags, prepared=prepared, environ=environ)
    return acceptance.refused(asked, names)


def starts(project: Project) -> list[str]:
    return (project.root / "starts").read_text().split()


NOTE = "validate) echo validate >> starts;;\n"


@pytest.mark.usefixtures("template")
def test_inspect_and_validate_run_side_by_side(project: Project, packer: Path) -> None:
    """Each waits for the other one: one after the other, neither would end well."""

    def wait_for(other: str, own: str) -> str:
        wait = f"for n in $(seq 500); do [ -e {other} ] && break; sleep 0.02; done"
        return f"touch {own}; {wait}; [ -e {other} ] || exit 3"

    found = scripted(
        project,
        packer,
        f"inspect) {wait_for('validating', 'inspecting')};;\n",
        f"validate) echo validate >> starts; {wait_for('inspecting', 'validating')};;\n",
    )
    prepared = ask(project, found)
    assert [each.name for each in prepared.outlines] == ["null.a", "null.b"]
    assert refused(prepared, ("null.a", "null.b")) is None
    assert starts(project) == ["validate"]


@pytest.mark.usefixtures("template")
def test_a_template_that_packer_accepts_is_accepted_in_part(project: Project, packer: Path) -> None:
    prepared = ask(project, scripted(project, packer, NOTE))
    assert refused(prepared, ("null.b",)) is None
    assert refused(prepared, None) is None
    assert starts(project) == ["validate"]


def test_a_part_may_be_accepted_though_the_whole_is_refused(
    project: Project, packer: Path, template: Path
) -> None:
    broken = TWO.replace('"b" { communicator = "none"', '"b" { communicator = "telepathy"')
    template.write_text(broken)
    prepared = ask(project, scripted(project, packer, NOTE))
    assert refused(prepared, ("null.a",)) is None
    assert refused(prepared, ("null.b",)) is not None


@pytest.mark.usefixtures("template")
def test_a_validation_that_is_not_needed_is_ended(project: Project, packer: Path) -> None:
    prepared = ask(project, scripted(project, packer, "validate) sleep 600 & wait;;\n"))
    eventually(lambda: processes.marked("MARK", str(project.root)))
    prepared.acceptances.close()
    eventually(lambda: not processes.marked("MARK", str(project.root)))


@pytest.mark.usefixtures("template")
def test_a_validation_is_ended_where_another_question_fails(
    project: Project, packer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TemplateError("no outline")

    monkeypatch.setattr("packer_fork.packer.outline.outline", fail)
    with pytest.raises(TemplateError, match="no outline"):
        ask(project, scripted(project, packer, "validate) sleep 600 & wait;;\n"))
    eventually(lambda: not processes.marked("MARK", str(project.root)))


def test_a_template_with_data_blocks_is_not_validated_beside_other_questions(
    project: Project, packer: Path, template: Path
) -> None:
    """Each question may run its data sources."""
    template.write_text(TWO + 'data "null" "d" { input = "x" }\n')
    (project.root / "starts").touch()
    ask(project, scripted(project, packer, NOTE)).acceptances.close()
    assert starts(project) == []


def is_known(acceptances: Acceptances, *words: str) -> bool:
    return acceptances.accepts(words)


def test_acceptances_are_kept_as_keyed_digests() -> None:
    environ = {"TOKEN": "hunter2", "SHLVL": "1"}
    known = Acceptances(environ)
    known.add(("-only=a",))
    (digest,) = known.digests(b"key")
    assert "hunter2" not in digest
    for changed, key, is_accepted in (
        (environ, b"key", True),
        ({**environ, "SHLVL": "2"}, b"key", True),
        ({**environ, "TOKEN": "other"}, b"key", False),
        (environ, b"another key", False),
    ):
        assert is_known(Acceptances(changed, key, [digest]), "-only=a") == is_accepted
    recalled = Acceptances(environ, b"key", [digest])
    assert not is_known(recalled, "-only=b")
    before = recalled.is_new
    recalled.add(("-only=b",))
    assert (before, recalled.is_new) == (False, True)
    assert len(recalled.digests(b"key")) == 2
