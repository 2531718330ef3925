"""What Packer 1.16.0 printed, read from its inspection to the verdict.

Templates and output lie in ``recordings``; what is expected was written by hand from these.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from packer_fork.manager.build.planned_steps import with_planned_steps
from packer_fork.manager.build.work_item import exit_code_of
from packer_fork.model import Actor, Build, Step, WorkItem
from packer_fork.packer import diagnostics, lines, outcome, program
from packer_fork.packer.outcome import Ended, Outcome
from packer_fork.packer.outline import Outlines, outline
from packer_fork.packer.sources import event_of
from packer_fork.template import planned, reader

RECORDINGS = Path(__file__).parent / "recordings"
VERSION = "1.16.0"
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Expected(NamedTuple):
    """A build: its status, its steps in short, IDs and files of its artifacts, its error."""

    status: str
    provisioners: str = ""
    post_processors: str = ""
    artifacts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    error: str = ""


class Case(NamedTuple):
    """``output``, ``inspect``, ``template``: files. ``packer_code``: of the recorded Packer.

    ``only``: the value of ``-only``. ``exit_code``: that of packer-fork.
    """

    output: str
    inspect: str
    template: str
    packer_code: int
    builds: Mapping[str, Expected]
    status: str
    exit_code: int
    error: str = ""
    ended: Ended = "normal"


NULL = ("fnoeding.null", "Null", ())
CONF = ("packer.file", "File", ("conf.txt",))
SUM = ("packer.post-processor.checksum", "", ("conf.txt", "conf.sum"))
NO_SUM = ("packer.post-processor.checksum", "", ())

OK = {
    "gold.file.conf": Expected(
        "complete",
        "shell-local:complete",
        "checksum:complete shell-local:complete manifest:complete",
        (CONF, SUM),
    ),
    "gold.null.probe": Expected(
        "complete",
        "shell-local:complete shell-local:complete",
        "checksum:complete shell-local:complete manifest:complete",
        (NULL, NO_SUM),
    ),
}
NOT_STARTED = "Packer never started this source"
SHELL = "shell-local:complete"
EXIT_3 = "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]"
EXIT_1 = "Script exited with non-zero exit status: 1. Allowed exit codes are: [0]"
FAIL = {
    "null.a": Expected("complete", SHELL, artifacts=(NULL,)),
    "null.b": Expected("failed", "shell-local:failed", error=EXIT_3),
}
NEVER = Expected("failed", "shell-local:skipped", error=f"{NOT_STARTED}, and gives no reason.")
EMPTY_ARTIFACT = "Packer lists an artifact without builder, ID and files"

CASES = (
    Case("build-ok", "ok", "ok.pkr.hcl", 0, OK, "complete", 0),
    Case("build-ok-sequential", "ok", "ok.pkr.hcl", 0, OK, "complete", 0),
    Case("build-ok-timestamp-ui", "ok", "ok.pkr.hcl", 0, OK, "complete", 0),
    Case("build-fail", "fail", "fail.pkr.hcl", 1, FAIL, "failed", 1),
    Case("build-fail-abort", "fail", "fail.pkr.hcl", 1, FAIL, "failed", 1),
    Case(
        "build-forged",
        "",
        "forged.pkr.hcl",
        1,
        {
            "null.a": Expected(
                "failed",
                "shell-local:failed shell-local:skipped",
                "checksum:skipped",
                error=EXIT_1,
            )
        },
        "failed",
        1,
    ),
    Case(
        "build-legacy",
        "legacy",
        "legacy.json",
        0,
        {
            "null": Expected("complete", SHELL, artifacts=(NULL,)),
            "file.two": Expected(
                "complete", SHELL, artifacts=(("packer.file", "File", ("two.txt",)),)
            ),
        },
        "complete",
        0,
    ),
    Case(
        "build-json-named",
        "json-named",
        "named.json",
        1,
        {
            "null.a": Expected("complete", artifacts=(NULL,)),
            "null.b": Expected("failed", "shell-local:failed", error=EXIT_1),
        },
        "failed",
        1,
    ),
    Case(
        "build-nested-secrets",
        "",
        "nested.pkr.hcl",
        0,
        {"null.a": Expected("complete", SHELL, artifacts=(NULL,))},
        "complete",
        0,
    ),
    Case(
        "build-plugin-killed",
        "",
        "killed.pkr.hcl",
        0,
        {
            "file.f": Expected("unverified", error=EMPTY_ARTIFACT),
            "null.slow": Expected("complete", SHELL, artifacts=(NULL,)),
        },
        "failed",
        1,
    ),
    Case(
        "build-cancelled",
        "",
        "slow.pkr.hcl",
        1,
        {
            "null.quick": Expected("unverified", SHELL, error="Packer said that it had finished"),
            "null.slow": Expected("cancelled", "shell-local:unknown", error="context canceled"),
        },
        "cancelled",
        1,
        ended="cancelled",
    ),
    Case(
        "build-inner-killed",
        "",
        "slow.pkr.hcl",
        0,
        {
            "null.quick": Expected("unverified", SHELL, error="Packer said that it had finished"),
            "null.slow": Expected("interrupted", "shell-local:unknown", error="Packer was cut off"),
        },
        "interrupted",
        1,
        error="Packer was cut off",
        ended="interrupted",
    ),
    Case("build-invalid", "invalid", "invalid.pkr.hcl", 1, {}, "failed", 1, "Error: Invalid exp"),
    Case(
        "build-undefined-variable",
        "undef",
        "undef.pkr.hcl",
        1,
        {
            "null.a": Expected(
                "failed", "shell-local:skipped", error=f"{NOT_STARTED}: Unset variable"
            )
        },
        "failed",
        1,
        'Error: Unset variable "must"',
    ),
    Case(
        "build-plugin-missing",
        "plugin",
        "plugin.pkr.hcl",
        1,
        {"amazon-ebs.web": Expected("failed", error=f"{NOT_STARTED}: Missing plugins")},
        "failed",
        14,
        "Error: Missing plugins",
    ),
    Case("build-only-none", "", "", 1, {}, "failed", 1, "Nothing was built: -only matched"),
    # Plain output has no lines that count: all that is known is that Packer was cut off.
    Case(
        "build-ok-plain",
        "ok",
        "ok.pkr.hcl",
        0,
        {
            name: Expected(
                "interrupted",
                " ".join(
                    part.replace("complete", "skipped") for part in build.provisioners.split()
                ),
                build.post_processors.replace("complete", "skipped"),
                error="Packer was cut off",
            )
            for name, build in OK.items()
        },
        "interrupted",
        1,
        "Packer was cut off",
    ),
    Case(
        "build-fail-plain",
        "fail",
        "fail.pkr.hcl",
        1,
        {"null.a": NEVER, "null.b": NEVER},
        "failed",
        1,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.output)
def test_a_recorded_build(case: Case) -> None:
    done = concluded(case)
    assert (str(done.item.status), done.item.exit_code) == (case.status, case.packer_code)
    assert done.item.error.startswith(case.error)
    assert bool(done.item.error) is bool(case.error)
    assert {name: shown(build, case.builds.get(name)) for name, build in done.builds.items()} == {
        **case.builds
    }
    assert exit_code_of(done, case.packer_code) == case.exit_code


def test_every_recorded_build_is_a_case() -> None:
    recorded = {path.stem for path in RECORDINGS.glob("build-*.out")}
    assert recorded == {case.output for case in CASES}


def concluded(case: Case) -> Outcome:
    template = RECORDINGS / case.template
    by = Actor(user="u", host="h", pid=1)
    item = WorkItem(
        run=1,
        number=1,
        token=1,
        started=AT,
        by=by,
        directory=str(RECORDINGS),
        packer_version=VERSION,
    )
    folded = outcome.begin(item, ())
    if case.template:
        outlined = inspected(case.inspect, template).builds
        called = {each.name: each.called or each.name for each in outlined}
        sections = reader.read(str(template)).contents.sections
        folded = with_planned_steps(
            outcome.begin(item, outlined),
            lambda name: planned.planned(sections, called[name], {}),
            (),
            hcl=reader.is_hcl(template),
        )
    for raw in (RECORDINGS / f"{case.output}.out").read_bytes().splitlines():
        if line := lines.parse(raw):
            folded = outcome.apply(folded, event_of(folded.item.sources, line))
    return outcome.conclude(folded, at=AT, exit_code=case.packer_code, ended=case.ended)


INSPECTED_BY_HAND = {
    "forged.pkr.hcl": (["null.a"], ["shell-local", "shell-local"], ["checksum"]),
    "nested.pkr.hcl": (["null.a"], ["shell-local"], []),
    "killed.pkr.hcl": (["file.f", "null.slow"], ["shell-local"], []),
    "slow.pkr.hcl": (["null.quick", "null.slow"], ["shell-local"], []),
}
"""Sources, provisioners and post-processors of templates of which no inspection is recorded."""


def inspected(name: str, template: Path) -> Outlines:
    if name:
        text = (RECORDINGS / f"inspect-{name}.out").read_text()
        return outline(text, reader.read(str(template)), version=(1, 16, 0))
    sources, provisioners, posts = INSPECTED_BY_HAND[template.name]
    tree = ["> builds:", "  > <unnamed build 0>:", "    sources:", *(f"      {s}" for s in sources)]
    tree += ["    provisioners:", *(f"      {each}" for each in provisioners)]
    tree += ["    post-processors:", "      0:", *(f"        {each}" for each in posts)]
    text = "1,,ui,say," + "\\n\\n".join(tree)
    return outline(text, reader.read(str(template)), version=(1, 16, 0))


def shown(build: Build, expected: Expected | None) -> Expected:
    """`build` in the form of what is expected of it; of a longer error its beginning."""
    error = expected.error if expected else ""
    return Expected(
        str(build.status),
        in_short(build.provisioners),
        in_short(build.post_processors),
        tuple(
            (each.builder_id, each.id, tuple(Path(file.path).name for file in each.files))
            for each in build.artifacts
        ),
        error if error and build.error.startswith(error) else build.error,
    )


def in_short(steps: tuple[Step, ...]) -> str:
    return " ".join(f"{step.type}:{step.status}" for step in steps)


INSPECTED = {
    "fail": ["null.a", "null.b"],
    "invalid": [],
    "json-named": ["null.a", "null.b"],
    "legacy": ["null", "file.two"],
    "ok": ["gold.file.conf", "gold.null.probe"],
    "plugin": ["amazon-ebs.web"],
    "undef": ["null.a"],
}
TEMPLATES = {"legacy": "legacy.json", "json-named": "named.json"}


def test_every_recorded_inspection() -> None:
    found = {}
    for path in RECORDINGS.glob("inspect-*.out"):
        name = path.stem.removeprefix("inspect-")
        template = RECORDINGS / TEMPLATES.get(name, f"{name}.pkr.hcl")
        found[name] = [each.name for each in inspected(name, template).builds]
    assert found == INSPECTED


@pytest.mark.processes
def test_the_recorded_version(tmp_path: Path) -> None:
    script = tmp_path / "packer"
    script.write_text(f"#!/bin/sh\ncat '{RECORDINGS / 'version.out'}'\n")
    script.chmod(0o755)
    assert program.find(str(script)).version == (1, 16, 0)


VALIDATED = {
    "fail": [],
    "invalid": ["Error: Invalid expression"],
    "legacy": [],
    "ok": [],
    "plugin": ["Error: Missing plugins"],
    "undef": ['Error: Unset variable "must"'],
}


def test_every_recorded_validation() -> None:
    found = {}
    for path in RECORDINGS.glob("validate-*.out"):
        said = path.read_text()
        errors = () if said == "The configuration is valid.\n" else diagnostics.errors_of(said)
        found[path.stem.removeprefix("validate-")] = [each.partition("\n")[0] for each in errors]
    assert found == VALIDATED
