"""The fold of Packer's lines: on recorded and live output, cut anywhere, and forged."""

import os
import signal
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from packer_fork.model import (
    Actor,
    Build,
    BuildStatus,
    KnownBy,
    Lines,
    RunStatus,
    Step,
    WorkItem,
    possibly_left,
)
from packer_fork.packer import lines, outcome, outline, verdict
from packer_fork.packer.outcome import Ended, Outcome
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.sources import Fact, event_of
from packer_fork.template.reader import read
from tests.conftest import eventually

AT = datetime(2026, 1, 1, tzinfo=UTC)
LOGS = Path(__file__).parent / "logs"
ENDS: tuple[tuple[int | None, Ended], ...] = (
    (1, "cancelled"),
    (None, "interrupted"),
    (0, "normal"),
)

SHELL, MANIFEST = ("shell-local", ""), ("manifest", "")


def item() -> WorkItem:
    by = Actor(user="u", host="h", pid=1)
    return WorkItem(run=3, number=1, token=1, started=AT, by=by, directory="/project")


def fold(start: Outcome, log: str) -> Outcome:
    for raw in log.encode().splitlines():
        line = lines.parse(raw)
        if line:
            start = outcome.apply(start, event_of(start.item.sources, line))
    return start


def finish(folded: Outcome, exit_code: int | None = 0, ended: Ended = "normal") -> Outcome:
    return outcome.conclude(folded, at=AT, exit_code=exit_code, ended=ended)


def start(*names: str) -> Outcome:
    provisioners = (SHELL, ("shell-local", "second"))
    posts = (MANIFEST, ("checksum", "sums"))
    return outcome.begin(item(), [BuildOutline(n, "null", provisioners, posts) for n in names])


def statuses(folded: Outcome) -> dict[str, str]:
    return {name: str(build.status) for name, build in folded.builds.items()}


def of(steps: Iterable[Step]) -> list[str]:
    return [str(step.status) for step in steps]


GOOD = """\
1795466850,,ui,say,==> x.null.a: Running local shell script: /tmp/packer-shell1
1795466850,,ui,message,    x.null.a: hello%!(PACKER_COMMA) world
1795466851,,ui,say,==> x.null.a: Running local shell script: /tmp/packer-shell2
1795466852,,ui,say,==> x.null.a: Running post-processor:  (type manifest)
1795466853,,ui,say,==> x.null.a: Running post-processor: sums (type checksum)
1795466854,,ui,say,Build 'x.null.a' finished after 1 second 127 milliseconds.
1795466854,,ui,say,\\n==> Wait completed after 1 second 134 milliseconds
1795466854,,ui,say,\\n==> Builds finished. The artifacts of successful builds are:
1795466854,x.null.a,artifact-count,2
1795466854,x.null.a,artifact,0,builder-id,packer.file
1795466854,x.null.a,artifact,0,id,File
1795466854,x.null.a,artifact,0,string,Stored file: out.txt
1795466854,x.null.a,artifact,0,files-count,1
1795466854,x.null.a,artifact,0,file,0,out.txt
1795466854,x.null.a,artifact,0,end
1795466854,x.null.a,artifact,1,builder-id,packer.file
1795466854,x.null.a,artifact,1,id,File
1795466854,x.null.a,artifact,1,string,Stored file: out.txt
1795466854,x.null.a,artifact,1,files-count,1
1795466854,x.null.a,artifact,1,file,0,out.txt
1795466854,x.null.a,artifact,1,end
"""
LINES = GOOD.splitlines(keepends=True)
CANCEL = "1795466852,,ui,error,Cancelling build after receiving terminated\n"


def test_a_whole_log_is_a_complete_build() -> None:
    folded = fold(start("x.null.a"), GOOD)
    build = folded.builds["x.null.a"]
    assert build.status is BuildStatus.COMPLETE, "even before anybody knows an exit code"
    assert [file.path for a in build.artifacts for file in a.files] == ["/project/out.txt"]
    assert build.evidence.artifacts_ended == 2
    assert set(of((*build.provisioners, *build.post_processors))) == {"complete"}
    assert (build.started, build.ended) == (at(1795466850), at(1795466854))
    assert finish(folded).item.status is RunStatus.COMPLETE
    assert finish(folded, None, "interrupted").item.status is RunStatus.COMPLETE


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_the_phases_of_a_build() -> None:
    seen = [
        str(fold(start("x.null.a"), "".join(LINES[:n])).builds["x.null.a"].status)
        for n in (0, 1, 4, 6, 8, 20, 21)
    ]
    phases = ["pending", "provisioning"] + 4 * ["post_processing"] + ["complete"]
    assert seen == phases
    said = "1795466850,,ui,message,    x.null.a: Creating something\n"
    assert statuses(fold(start("x.null.a"), said)) == {"x.null.a": "creating"}


@pytest.mark.parametrize("ended", ["normal", "interrupted", "cancelled"])
@pytest.mark.parametrize("length", range(len(LINES)))
def test_a_log_that_is_cut_short_is_never_complete(length: int, ended: Ended) -> None:
    done = finish(fold(start("x.null.a"), "".join(LINES[:length])), 0, ended)
    assert done.item.status is not RunStatus.COMPLETE
    status = done.builds["x.null.a"].status
    if length > 5:
        assert status is BuildStatus.UNVERIFIED
    else:
        cancelled = ended == "cancelled"
        assert status is (BuildStatus.CANCELLED if cancelled else BuildStatus.INTERRUPTED)


@pytest.mark.parametrize("number", range(5, len(LINES)))
def test_without_any_one_line_of_the_proof_it_is_not_complete(number: int) -> None:
    """Only the lines that tell of an artifact itself may be missing."""
    log = "".join(line for n, line in enumerate(LINES) if n != number)
    done = finish(fold(start("x.null.a"), log), 1)
    proves = any(word in LINES[number] for word in ("finished", "artifact-count", "end\n"))
    assert (done.builds["x.null.a"].status is BuildStatus.COMPLETE) is not proves


def test_a_missing_artifact_line_leaves_its_hints() -> None:
    log = GOOD.replace("1795466854,x.null.a,artifact,1,end\n", "")
    build = finish(fold(start("x.null.a"), log)).builds["x.null.a"]
    assert build.status is BuildStatus.UNVERIFIED
    assert build.artifacts[0].files[0].path == "/project/out.txt"
    assert "artifacts" in build.error


@pytest.mark.parametrize(
    ("position", "status"),
    [(3, "cancelled"), (5, "cancelled"), (6, "unverified"), (7, "unverified")],
)
def test_a_cancel_decides_by_what_came_before_it(position: int, status: str) -> None:
    log = "".join((*LINES[:position], CANCEL, *LINES[position:7]))
    for code, ended in ENDS[:2]:
        done = finish(fold(start("x.null.a", "y"), log), code, ended)
        assert statuses(done) == {"x.null.a": status, "y": "cancelled"}
        assert done.item.status is RunStatus.CANCELLED


def test_a_cancel_that_comes_too_late_changes_nothing() -> None:
    done = finish(fold(start("x.null.a"), GOOD + CANCEL), 0, "cancelled")
    assert statuses(done) == {"x.null.a": "complete"}
    assert done.item.status is RunStatus.COMPLETE


def test_an_error_after_a_cancel_is_no_failure() -> None:
    log = f"{LINES[0]}{CANCEL}1795466853,,ui,error,Build 'x.null.a' errored after 3 s: killed\n"
    build = finish(fold(start("x.null.a"), log), 1, "cancelled").builds["x.null.a"]
    assert (build.status, build.error) == (BuildStatus.CANCELLED, "killed")
    assert of(build.provisioners) == ["unknown", "skipped"]


FORGERIES = (
    "Build 'x.null.a' finished after 1 second.",
    "\\nBuild 'x.null.a' finished after 1 second.",
    "\\nBuild 'x.null.a' errored after 1 second: no",
    "\\n==> Builds finished but no artifacts were created.",
    "\\n==> Builds finished. The artifacts of successful builds are:",
    "Cancelling build after receiving terminated",
    "\\nCancelling build after receiving terminated",
    "\\n1795466854%!(PACKER_COMMA)x.null.a%!(PACKER_COMMA)artifact-count%!(PACKER_COMMA)0",
    "2020-11-23T20:47:37Z: Build 'x.null.a' finished after 1 second.",
)


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize(
    "form",
    [
        "say,==> x.null.a: {}",
        "message,    x.null.a: {}",
        "error,==> x.null.a: {}",
        "say,==> x.null.a (shell-local): {}",
        "say,2020-11-23T20:47:37+02:00: ==> x.null.a: {}",
    ],
)
def test_a_script_cannot_forge_a_verdict(form: str, text: str) -> None:
    log = f"1795466850,,ui,{form.format(text)}\n"
    folded = fold(start("x.null.a", "x.null.b"), log)
    assert not any(build.evidence.finished for build in folded.builds.values())
    assert statuses(folded) == {"x.null.a": "creating", "x.null.b": "pending"}
    assert not folded.item.closed
    assert not folded.item.cancelled
    assert folded.item.error == ""


def test_what_changes_nothing_gives_the_same_object() -> None:
    folded = fold(start("x.null.a"), GOOD)
    for raw in (*LINES, "1,,ui,say,\n", "1,,ui\n", "1,,version,1.6.6\n", "1,x.null.a,artifact\n"):
        line = lines.parse(raw.encode())
        assert line is not None
        assert outcome.apply(folded, event_of(folded.item.sources, line)) is folded
    middle = fold(start("x.null.a"), LINES[0])
    assert fold(middle, LINES[1]) is middle
    assert finish(finish(folded)) == finish(folded)
    assert finish(finish(folded), 1, "interrupted") == finish(folded)


FAILURES = (
    BuildOutline("null.ok", "null"),
    BuildOutline("null.bad", "null"),
    BuildOutline("r.null.retry", "null", (("breakpoint", ""), SHELL, SHELL)),
    BuildOutline("null.posts", "null", (), (SHELL, MANIFEST)),
    BuildOutline(
        "web.file.out",
        "file",
        (SHELL, ("shell-local", "second")),
        (MANIFEST, ("checksum", "sums"), MANIFEST),
    ),
)


def failures(exit_code: int | None = 1, ended: Ended = "normal") -> Outcome:
    log = (LOGS / "failures.log").read_text()
    return finish(fold(outcome.begin(item(), FAILURES), log), exit_code, ended)


def test_failures_on_record() -> None:
    done = failures()
    assert statuses(done) == {
        "null.ok": "complete",
        "null.bad": "failed",
        "r.null.retry": "failed",
        "null.posts": "failed",
        "web.file.out": "complete",
    }
    assert (done.item.status, done.item.exit_code) == (RunStatus.FAILED, 1)
    cause = "one authentication method must be specified, please reference your communicator"
    assert done.item.error.startswith(cause)
    bad = done.builds["null.bad"].error.splitlines()
    assert bad[0].startswith(f"Packer never started this source: {cause}")
    assert "* An ssh_username must be specified" in bad
    assert statuses(failures(None, "interrupted")) == statuses(done)


def test_steps_on_record() -> None:
    builds = failures().builds
    retry = builds["r.null.retry"]
    assert of(retry.provisioners) == ["complete", "failed", "skipped"]
    assert retry.provisioners[1].error == retry.error
    assert retry.provisioners[1].known_by is KnownBy.OBSERVED
    assert "non-zero exit status: 1" in retry.error
    assert of(builds["null.posts"].post_processors) == ["unknown", "unknown"]
    web = builds["web.file.out"]
    assert of(web.provisioners) == ["complete", "complete"]
    assert web.provisioners[1].known_by is KnownBy.INFERRED
    assert of(web.post_processors) == ["complete", "complete", "complete"]
    assert [artifact.builder_id for artifact in web.artifacts] == [
        "packer.file",
        "packer.post-processor.checksum",
    ]
    assert web.evidence.artifact_count == web.evidence.artifacts_ended == 4


NAMES = ("null", "ünï: \"q\" 'x' finished after (shell-local), 1.2", r"a\nb", "null: a")


@pytest.mark.parametrize("known", [NAMES, NAMES[:1], ()])
def test_names_may_be_anything_known_before_or_not(known: tuple[str, ...]) -> None:
    outlines = [BuildOutline(name, "null", (SHELL,), (MANIFEST,)) for name in known]
    log = (LOGS / "names.log").read_text()
    done = finish(fold(outcome.begin(item(), outlines), log), 0 if known == NAMES else 1)
    if known == NAMES:
        assert statuses(done) == dict.fromkeys(NAMES, "complete")
        assert {of(b.provisioners)[0] for b in done.builds.values()} == {"complete"}
        assert done.item.status is RunStatus.COMPLETE
    else:
        # What cannot be told without knowing it: two names that hold what Packer writes itself.
        assert {"null", "null: a"} <= {*done.builds}
        assert done.builds["null: a"].status is BuildStatus.COMPLETE
        assert "ünï" not in done.builds, "taken for a name at first, and never heard of again"
    assert done.item.sources == tuple(done.builds)


def test_a_name_with_a_comma_of_which_the_beginning_is_a_name_too() -> None:
    log = GOOD.replace("x.null.a:", "p%!(PACKER_COMMA)q:").replace(
        "'x.null.a'", "'p%!(PACKER_COMMA)q'"
    )
    done = finish(fold(start("p", "p,q"), log.replace("x.null.a", "p,q")), 1)
    assert statuses(done) == {"p": "failed", "p,q": "complete"}


def test_a_cancel_on_record_with_times_before_the_texts() -> None:
    outlines = [
        BuildOutline("null.fast", "null"),
        BuildOutline("null.slow", "null", (SHELL, SHELL), (MANIFEST,)),
    ]
    log = (LOGS / "cancelled.log").read_text()
    done = finish(fold(outcome.begin(item(), outlines), log), 1, "cancelled")
    assert statuses(done) == {"null.fast": "unverified", "null.slow": "cancelled"}
    slow = done.builds["null.slow"]
    assert of((*slow.provisioners, *slow.post_processors)) == ["unknown", "skipped", "skipped"]
    assert (done.item.status, done.item.cancelled) == (RunStatus.CANCELLED, True)


def source_of(names: list[str], line: lines.Line) -> str:
    name = event_of(names, line).name
    return name if name in names else ""


def test_sources_of_output() -> None:
    names = ["a", "a: b", "a (x)", "b"]
    expected = {
        "==> a: text": "a",
        "==> a: b: text": "a: b",
        "    a: b": "a",
        "    a:": "a",
        "==> a (shell-local): text": "a",
        "==> a (x): text": "a (x)",
        "==> a (x) (manifest): text": "a (x)",
        "2020-11-23T20:47:37Z: ==> b: text": "b",
        "--> b: Stored file: x": "b",
        "Build 'a: b' finished after 1 second.": "a: b",
        "Build 'c' finished after 1 second.": "",
        "==> c: text": "",
        "==> ab: text": "",
        "\n==> Wait completed after 1 second": "",
        "": "",
    }
    for text, name in expected.items():
        for kind in ("say", "message", "error"):
            line = lines.Line(AT, "", "ui", (kind, text))
            assert source_of(names, line) == name, text
    fact = event_of(names, lines.Line(AT, "a", "error", ("==> b: x",)))
    assert fact == Fact(at=AT, name="a", kind="error", args=("==> b: x",))


def test_an_unknown_build_is_learned_from_its_first_word() -> None:
    folded = fold(outcome.begin(item(), ()), LINES[0])
    assert statuses(folded) == {"x.null.a": "provisioning"}
    assert folded.item.sources == ("x.null.a",)
    found = folded.builds["x.null.a"]
    assert (found.run, found.item, found.by) == (3, 1, item().by)
    begun = start("x.null.a").builds["x.null.a"]
    assert (begun.run, begun.item, begun.by) == (3, 1, item().by)
    assert finish(fold(folded, "".join(LINES[1:]))).item.status is RunStatus.COMPLETE


def test_an_outlined_build_that_never_was_is_dropped_if_packer_did_all() -> None:
    done = finish(fold(start("x.null.a", "other"), GOOD), 0)
    assert done.item.sources == ("x.null.a",) == tuple(done.builds)
    assert done.item.status is RunStatus.COMPLETE
    for code in (1, None):
        failed = finish(fold(start("x.null.a", "other"), GOOD), code)
        assert statuses(failed) == {"x.null.a": "complete", "other": "failed"}
        assert failed.item.status is RunStatus.FAILED


EMPTY = "1795466854,,ui,say,\\n==> Builds finished but no artifacts were created.\n"


NO_BUILDS = "1795466854,,ui,error,Error: No builds to run\\n\\nA build command cannot run\n"


@pytest.mark.parametrize(
    ("names", "log", "exit_code"), [((), EMPTY, 0), (("x.null.a",), EMPTY, 0), ((), NO_BUILDS, 1)]
)
def test_only_that_matched_nothing_is_said(
    names: tuple[str, ...], log: str, exit_code: int
) -> None:
    done = finish(fold(start(*names), log), exit_code)
    assert done.builds == {}
    assert (done.item.status, done.item.error) == (RunStatus.FAILED, verdict.NOTHING_BUILT)


BESIDE = """\
1795466854,,ui,say,\\n==> Builds finished. The artifacts of successful builds are:
1795466854,b,artifact-count,1
1795466854,b,artifact,0,builder-id,fnoeding.null
1795466854,b,artifact,0,id,Null
1795466854,b,artifact,0,end
"""
NIL = "".join(
    f"1795466854,x.null.a,{each}\n"
    for each in ("artifact-count,1", "artifact,0,nil", "artifact,0,end")
)
UNKNOWN_ARTIFACT = "".join(
    f"1795466854,x.null.a,{each}\n"
    for each in (
        "artifact-count,1",
        "artifact,0,builder-id,",
        "artifact,0,id,",
        "artifact,0,string,",
        "artifact,0,files-count,0",
        "artifact,0,end",
    )
)


@pytest.mark.parametrize("closing", [EMPTY, BESIDE, BESIDE + NIL], ids=["all", "one", "nil"])
@pytest.mark.parametrize("is_planned", [True, False])
def test_no_artifact_is_proof_only_where_the_template_says_so(
    closing: str, *, is_planned: bool
) -> None:
    started = start("x.null.a")
    build = structs.replace(started.builds["x.null.a"], makes_no_artifact=is_planned)
    folded = fold(Outcome(started.item, {"x.null.a": build}), "".join(LINES[:7]) + closing)
    for code, ended in (ENDS[1], ENDS[2]):
        done = outcome.conclude(folded, at=AT, exit_code=code, ended=ended).builds["x.null.a"]
        assert str(done.status) == ("complete" if is_planned else "unverified")
        assert "artifact" in done.error or is_planned


@pytest.mark.parametrize("is_planned", [True, False])
def test_a_run_without_any_artifact(*, is_planned: bool) -> None:
    begun = start("x.null.a")
    build = structs.replace(begun.builds["x.null.a"], makes_no_artifact=is_planned)
    log = "".join(
        (*LINES[:2], "1,,ui,message,    x.null.a: Instance ID: i-1\n", *LINES[2:7], EMPTY)
    )
    done = finish(fold(Outcome(begun.item, {"x.null.a": build}), log))
    assert str(done.item.status) == ("complete" if is_planned else "failed")
    assert ("lists no artifact" in done.builds["x.null.a"].error) is not is_planned
    assert possibly_left(done.builds["x.null.a"]) == ()


def test_an_artifact_of_which_nothing_is_known_proves_nothing() -> None:
    log = "".join(LINES[:8]) + UNKNOWN_ARTIFACT
    build = finish(fold(start("x.null.a"), log)).builds["x.null.a"]
    assert build.status is BuildStatus.UNVERIFIED
    assert "died after the build had finished" in build.error
    assert "Look for the image or the files that the null source 'x.null.a' names" in build.error
    assert build.artifacts == ()


def test_an_artifact_beside_one_of_which_nothing_is_known_is_kept_and_proves_nothing() -> None:
    """As when the plugin of a post-processor has died, and that of the builder has not."""
    fields = ("builder-id,packer.file", "id,File", "string,Stored file: out.txt")
    log = GOOD
    for field in fields:
        log = log.replace(f"artifact,1,{field}", f"artifact,1,{field.partition(',')[0]},")
    log = log.replace("1795466854,x.null.a,artifact,1,file,0,out.txt\n", "")
    build = finish(fold(start("x.null.a"), log)).builds["x.null.a"]
    assert build.status is BuildStatus.UNVERIFIED
    assert [each.builder_id for each in build.artifacts] == ["packer.file"]


@pytest.mark.parametrize(("log", "left"), [("".join(LINES[:6]), 0), (LINES[0], 1)])
def test_a_builder_that_has_finished_leaves_no_instance(log: str, left: int) -> None:
    said = "1795466850,,ui,message,    x.null.a: Instance ID: i-1\n"
    build = finish(fold(start("x.null.a"), said + log), 1).builds["x.null.a"]
    assert len(possibly_left(build)) == left


def test_an_exit_code_that_does_not_fit() -> None:
    done = finish(fold(start("x.null.a"), GOOD), 2)
    assert statuses(done) == {"x.null.a": "complete"}
    assert done.item.status is RunStatus.FAILED
    assert "exit code 2" in done.item.error


def test_a_template_that_packer_refuses() -> None:
    log = "1795466850,,ui,error,Error: Unknown block\\n\\n  on t.pkr.hcl line 3:\\n\n"
    done = finish(fold(start("x.null.a"), log), 1)
    assert done.item.error == "Error: Unknown block\n\n  on t.pkr.hcl line 3:"
    assert done.builds["x.null.a"].error.endswith(done.item.error)
    assert statuses(done) == {"x.null.a": "failed"}
    assert of(done.builds["x.null.a"].provisioners) == ["skipped", "skipped"]


WARNED = (
    'Warning: A checksum of "none" was specified.\\n\\n  on t.pkr.hcl line 1:\\n'
    "  (source code not available)\\n\\n"
    "Error: 1 error(s) occurred:\\n\\n* Output directory 'out' already exists. It must not exist."
    "\\n\\n  on t.pkr.hcl line 1:\\n  (source code not available)\\n\\n"
    "Error: 2 error(s) occurred:\\n\\n* one\\n* two\\n\\n  on t.pkr.hcl line 9:\\n"
    "  (source code not available)\\n\\n"
    'Error: Failed preparing provisioner-block "shell" ""\\n\\n  on t.pkr.hcl line 20:\\n'
    "  (source code not available)\\n\\n1 error(s) occurred:\\n\\n* three\\n\\n"
)
NEVER_STARTED = "Packer never started this source: "


def never_started(*names: str, text: str = WARNED, places: bool = True) -> Outcome:
    begun = start(*names)
    blocks = [(1, 5), (7, 10), (12, 14)]
    builds = {
        name: structs.replace(build, places=(Lines(file="t.pkr.hcl", first=first, last=last),))
        if places
        else build
        for (name, build), (first, last) in zip(begun.builds.items(), blocks, strict=False)
    }
    return finish(fold(Outcome(begun.item, builds), f"1795466850,,ui,error,{text}\n{EMPTY}"), 1)


def test_each_source_that_never_started_has_its_own_errors() -> None:
    done = never_started("q", "n", "s")
    errors = {name: build.error.splitlines() for name, build in done.builds.items()}
    assert {name: lines[0] for name, lines in errors.items()} == {
        "q": f"{NEVER_STARTED}Output directory 'out' already exists. It must not exist.",
        "n": f"{NEVER_STARTED}two",
        "s": f"{NEVER_STARTED}three",
    }
    assert "* one" in errors["n"]
    assert not any("Warning" in line or "Output" in line for line in errors["n"])
    assert done.item.error.startswith("three\n\nError: 1 error(s)")
    assert "Warning" not in done.item.error
    assert all(build.evidence.never_started for build in done.builds.values())


@pytest.mark.parametrize(
    ("error", "first_line"),
    [
        ("2 error(s) occurred:\\n\\n* first\\n* second", "second"),
        ("Error: no\\n\\nmore", "Error: no"),
        ("Script exited.\\n* a line of it", "Script exited."),
    ],
)
def test_an_error_of_several_causes_begins_with_the_last(error: str, first_line: str) -> None:
    done = finish(fold(start("n"), f"1795466850,,ui,error,Build 'n' errored: {error}\n{EMPTY}"), 1)
    told = done.builds["n"].error
    assert told.partition("\n")[0] == first_line
    assert told.endswith(error.replace("\\n", "\n"))


def test_errors_of_no_place_that_is_known_are_those_of_every_source() -> None:
    done = never_started("q", "n", places=False)
    assert all("already exists" in build.error for build in done.builds.values())
    done = never_started("q", "n", text="Error: Missing plugins\\n\\nof all\\n\\n")
    assert {build.error.partition("\n")[0] for build in done.builds.values()} == {
        f"{NEVER_STARTED}Missing plugins"
    }


def test_the_errors_of_a_json_template_name_their_builds() -> None:
    text = 'Error: Failed to prepare build: "{}"\\n\\n1 error(s) occurred:\\n\\n* {}\\n\\n'
    both = text.format("b", "target required") + text.format("a", "no host")
    done = never_started("null.a", "b", text=both, places=False)
    assert {name: build.error.partition("\n")[0] for name, build in done.builds.items()} == {
        "null.a": f"{NEVER_STARTED}no host",
        "b": f"{NEVER_STARTED}target required",
    }


def test_a_warning_is_no_cause() -> None:
    log = "1795466850,,ui,error,Warning: mind the gap\\n\\n  on t.pkr.hcl line 1:\\n\n"
    assert fold(start("x.null.a"), log).item.error == ""


@pytest.mark.parametrize(
    ("log", "exit_code", "expected"),
    [
        (f"1,,ui,error,{WARNED}\n", 1, True),
        (f"1,,ui,error,{WARNED}\n{EMPTY}", 1, True),
        (EMPTY, 1, True),
        ("", 1, False),
        (f"1,,ui,error,{WARNED}\n", 2, False),
        (LINES[0] + EMPTY, 1, False),
    ],
)
def test_what_proves_that_a_build_never_started(
    log: str, exit_code: int, *, expected: bool
) -> None:
    build = finish(fold(start("x.null.a"), log), exit_code).builds["x.null.a"]
    assert (str(build.status), build.evidence.never_started) == ("failed", expected)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Build 'a' errored after 1 s: no"], True),
        (["Build 'a' errored after 1 s: no", "Build 'b' finished after 1 s."], False),
        (['Error: Failed to prepare build: "b"', "Build 'a' errored after 1 s: no"], False),
    ],
)
def test_a_cancel_changes_nothing_once_every_build_has_ended(
    texts: list[str], *, expected: bool
) -> None:
    log = "".join(f"1795466850,,ui,error,{text}\n" for text in texts)
    assert outcome.is_under_way(fold(start("a", "b"), log)) is expected


def test_two_builds_of_one_name_of_which_one_fails() -> None:
    errored = "1795466852,,ui,error,Build 'x.null.a' errored after 1 second: no\n"
    log = "".join((*LINES[:6], errored, *LINES[6:]))
    assert statuses(finish(fold(start("x.null.a"), log), 1)) == {"x.null.a": "failed"}


def test_an_error_that_comes_after_the_end_is_a_failure() -> None:
    """As when the registry that Packer reports to refuses what was built."""
    error = "1795466854,x.null.a,error,publishing failed\n"
    build = finish(fold(start("x.null.a"), "".join((*LINES[:7], error, *LINES[7:]))), 1)
    assert statuses(build) == {"x.null.a": "failed"}
    assert build.builds["x.null.a"].error == "publishing failed"


def provisioners(types: list[str], texts: list[str]) -> list[str]:
    steps = tuple((kind, "") for kind in types)
    begun = outcome.begin(item(), [BuildOutline("n", "amazon-ebs", steps)])
    log = "".join(f"1795466850,,ui,say,==> n: {text}\n" for text in texts)
    return of(fold(begun, log).builds["n"].provisioners)


def test_what_runs_to_clean_up_is_no_provisioner() -> None:
    shell = "Running local shell script: /tmp/packer-shell1"
    texts = [shell, "Provisioning step had errors: Running the cleanup provisioner", shell]
    assert provisioners(["shell-local", "shell-local"], texts) == ["failed", "pending"]


def test_provisioners_that_say_nothing_are_passed_over() -> None:
    types = ["sleep", "shell", "sleep", "ansible"]
    texts = ["Provisioning with shell script: a", "Provisioning with Ansible..."]
    assert provisioners(types, texts[:1]) == ["complete", "running", *2 * ["pending"]]
    assert provisioners(types, texts) == ["complete", "complete", "complete", "running"]


def test_a_provisioner_that_repeats_itself_is_not_taken_for_one_further_on() -> None:
    texts = 3 * ["Uploading a => /b"]
    assert provisioners(["file", "ansible", "file"], texts) == ["running", "pending", "pending"]
    texts.append("Provisioning with Ansible...")
    assert provisioners(["file", "ansible", "file"], texts) == ["complete", "running", "pending"]


@pytest.mark.parametrize(
    "text", ["Provisioning with shell script: x", "Uploading a => b", "Provisioning with Ansible"]
)
def test_what_no_step_is_known_for_moves_none(text: str) -> None:
    assert provisioners(["ansible", "sleep"], [text]) == ["pending", "pending"]


@pytest.mark.parametrize(
    ("form", "step"),
    [
        ("manifest", ("manifest", "")),
        (" (type manifest)", ("manifest", "")),
        ("own (type manifest)", ("manifest", "own")),
        ("manifest", ("manifest", "own")),
        ("x (type y) (type manifest)", ("manifest", "x (type y)")),
    ],
)
def test_the_forms_in_which_post_processors_are_announced(form: str, step: tuple[str, str]) -> None:
    begun = outcome.begin(item(), [BuildOutline("n", "null", (SHELL,), (step,))])
    log = f"1795466850,,ui,say,==> n: Running post-processor: {form}\n"
    build = fold(begun, log).builds["n"]
    assert build.status is BuildStatus.POST_PROCESSING
    assert of(build.post_processors) == ["running"]
    errored = "1795466850,,ui,error,Build 'n' errored after 1 s: Post-processor failed: x\n"
    (post,) = fold(begun, log + errored).builds["n"].post_processors
    assert (str(post.status), post.error) == ("failed", "Post-processor failed: x")


def test_a_post_processor_that_nobody_knows_is_not_believed() -> None:
    log = "1795466850,,ui,say,==> x.null.a: Running post-processor: evil\n"
    assert statuses(fold(start("x.null.a"), log)) == {"x.null.a": "creating"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("    {}: Instance ID: i-0123", "i-0123"),
        ("    {}: Container ID: 0a1b", "0a1b"),
        ("    {}: Public IP: 198.51.100.7", "198.51.100.7"),
        ("==> {}: IP address: 2001:db8::1", "2001:db8::1"),
        ("    {}: IP: 198.51.100.7", "198.51.100.7"),
        ("==> {}:  -> IP Address        : '198.51.100.7'", "198.51.100.7"),
        ("==> {}: Using ssh communicator to connect: host.example", "host.example"),
    ],
)
def test_an_instance_is_learned_until_scripts_run(text: str, found: str) -> None:
    line = f"1795466850,,ui,say,{text.format('x.null.a')}\n"
    instance = fold(start("x.null.a"), line).builds["x.null.a"].instance
    assert instance is not None
    assert found in (instance.id, *instance.addresses)
    assert instance.provider == "null"
    assert fold(start("x.null.a"), LINES[0] + line).builds["x.null.a"].instance is None


def stored(folded: Outcome) -> Outcome:
    """As it comes back from the store."""
    item_again = msgspec.json.decode(msgspec.json.encode(folded.item), type=WorkItem)
    builds = {
        name: msgspec.json.decode(msgspec.json.encode(build), type=Build)
        for name, build in folded.builds.items()
    }
    return Outcome(item_again, {name: builds[name] for name in item_again.sources})


RECORDED = [
    line
    for log in sorted(LOGS.iterdir())
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True)
]
noise = st.sampled_from(
    [
        CANCEL,
        EMPTY,
        "panic: runtime error\n",
        "1795466850,,ui,say,==> x.null.b: Provisioning step had errors: x\n",
        "1,,ui,say,==> x.null.a: Provisioner failed with x, retrying with 1 trie(s) left\n",
        "1795466850,,ui,error,Build 'x.null.b' errored after 1 s: x\n",
        "1795466850,,ui,message,    x.null.b: Instance ID: i-1\n",
        "1795466850,x.null.b,artifact,7,id,x\n",
        "1795466850,x.null.b,artifact,7,nil\n",
        "1795466850,x.null.b,artifact-count,many\n",
        "1795466850,other,error,who\n",
        *LINES,
        *LINES,
        *RECORDED,
    ]
)


@settings(max_examples=300, deadline=None)
@given(log=st.lists(noise, max_size=40), cut=st.integers(0, 40))
def test_a_fold_can_be_taken_up_anywhere(log: list[str], cut: int) -> None:
    begun = start("x.null.a", "x.null.b")
    whole = fold(begun, "".join(log))
    again = fold(stored(fold(begun, "".join(log[:cut]))), "".join(log[cut:]))
    assert again == whole
    assert again.item.sources == tuple(again.builds)
    for code, ended in ENDS:
        done = finish(whole, code, ended)
        assert finish(again, code, ended) == done
        assert all(build.status.is_final for build in done.builds.values())
        assert done.item.sources == tuple(done.builds)


@pytest.mark.parametrize("log", sorted(LOGS.iterdir()), ids=lambda path: path.stem)
def test_recorded_logs_can_be_taken_up_after_every_line(log: Path) -> None:
    begun = outcome.begin(item(), FAILURES)
    rows = log.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = fold(begun, "".join(rows))
    for cut in range(len(rows)):
        half = stored(fold(begun, "".join(rows[:cut])))
        assert fold(half, "".join(rows[cut:])) == whole


@settings(max_examples=100, deadline=None)
@given(log=st.lists(noise, max_size=40), more=st.lists(noise, max_size=10))
def test_a_final_status_never_goes_back(log: list[str], more: list[str]) -> None:
    before = fold(start("x.null.a", "x.null.b"), "".join(log))
    after = fold(before, "".join(more))
    final = {name: build for name, build in before.builds.items() if build.status.is_final}
    assert {name: after.builds[name] for name in final} == final


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_line_is_too_strange(data: bytes) -> None:
    for raw in (data, b"1795466850," + data, b"1795466850,,ui,say," + data):
        if line := lines.parse(raw):
            folded = finish(outcome.apply(start("x"), event_of(("x",), line)), None, "interrupted")
            assert stored(folded) == folded


LIVE = """
    source "null" "slow" { communicator = "none" }
    source "file" "fast" {
      content = "hello"
      target  = "out.txt"
    }
    build { sources = ["file.fast"] }
    build {
      name    = "x"
      sources = ["null.slow"]
      provisioner "shell-local" {
        inline = ["touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done; echo done"]
      }
      provisioner "shell-local" { inline = ["true"] }
      post-processor "manifest" {}
    }
"""


def begun_live(packer: Path, folder: Path, *flags: str) -> tuple[subprocess.Popen[bytes], Outcome]:
    """Real Packer, gated, and the beginning of its outcome."""
    template = folder / "t.pkr.hcl"
    template.write_text(LIVE)
    command = [str(packer), "inspect", "-machine-readable", template.name]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(packer), "build", "-machine-readable", *flags, template.name],
            cwd=folder,
            stdout=log,
            start_new_session=True,
        )
    eventually((folder / "begun").exists)
    return process, outcome.begin(item(), outline.outline(said, read(str(template))).builds)


def ended_live(process: subprocess.Popen[bytes], begun: Outcome, folder: Path) -> Outcome:
    code = process.wait(30)
    (folder / "go").touch()
    folded = fold(begun, (folder / "log").read_text())
    ended: Ended = "cancelled" if folded.item.cancelled else "normal"
    return finish(folded, code, ended)


@pytest.mark.parametrize("flags", [(), ("-timestamp-ui",), ("-parallel-builds=1",)])
def test_a_live_run(packer: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    process, begun = begun_live(packer, tmp_path, *flags)
    (tmp_path / "go").touch()
    done = ended_live(process, begun, tmp_path)
    assert statuses(done) == {"file.fast": "complete", "x.null.slow": "complete"}
    assert done.item.status is RunStatus.COMPLETE
    slow = done.builds["x.null.slow"]
    assert of((*slow.provisioners, *slow.post_processors)) == 3 * ["complete"]


def test_a_live_cancel(packer: Path, tmp_path: Path) -> None:
    process, begun = begun_live(packer, tmp_path)
    eventually(lambda: b"Build 'file.fast' finished" in (tmp_path / "log").read_bytes())
    process.send_signal(signal.SIGTERM)
    done = ended_live(process, begun, tmp_path)
    assert statuses(done) == {"file.fast": "unverified", "x.null.slow": "cancelled"}
    assert done.item.status is RunStatus.CANCELLED


def test_a_live_kill(packer: Path, tmp_path: Path) -> None:
    process, begun = begun_live(packer, tmp_path)
    eventually(lambda: b"Build 'file.fast' finished" in (tmp_path / "log").read_bytes())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    (tmp_path / "go").touch()
    done = finish(fold(begun, (tmp_path / "log").read_text()), None, "interrupted")
    assert statuses(done) == {"file.fast": "unverified", "x.null.slow": "interrupted"}
    assert done.item.status is RunStatus.INTERRUPTED
