"""The fold of Packer's lines, on real output and in any two pieces."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer_fork.model import Actor, Build, BuildStatus, Run, RunStatus, StepStatus
from packer_fork.packer import lines, outcome, outline, selection
from packer_fork.packer.outcome import Ended, Outcome

AT = datetime(2026, 1, 1, tzinfo=UTC)


def run() -> Run:
    return Run(
        number=1,
        tenure=1,
        started=AT,
        by=Actor(user="u", host="h", pid=1),
        directory="/project",
    )


def fold(start: Outcome, log: str) -> Outcome:
    for raw in log.encode().splitlines():
        line = lines.parse(raw)
        if line:
            start = outcome.apply(start, line)
    return start


def finish(folded: Outcome, exit_code: int | None = 0, ended: Ended = "normal") -> Outcome:
    return outcome.conclude(folded, at=AT, exit_code=exit_code, ended=ended)


def start(*names: str) -> Outcome:
    steps = (("shell-local", ""), ("shell-local", "second"))
    post = (("manifest", ""), ("checksum", "sums"))
    return outcome.begin(run(), [outline.BuildOutline(n, "null", steps, post) for n in names])


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


def test_a_whole_log_is_a_complete_build() -> None:
    done = finish(fold(start("x.null.a"), GOOD))
    build = done.builds["x.null.a"]
    assert build.status is BuildStatus.COMPLETE
    assert done.run.status is RunStatus.COMPLETE
    assert [file.path for a in build.artifacts for file in a.files] == ["/project/out.txt"]
    assert {step.status for step in (*build.provisioners, *build.post_processors)} == {
        StepStatus.COMPLETE
    }


@pytest.mark.parametrize("length", range(len(LINES)))
def test_a_log_that_is_cut_short_is_never_complete(length: int) -> None:
    done = finish(fold(start("x.null.a"), "".join(LINES[:length])), 0, "interrupted")
    assert done.builds["x.null.a"].status is not BuildStatus.COMPLETE
    assert done.run.status is not RunStatus.COMPLETE


def test_a_missing_artifact_line_leaves_it_unverified() -> None:
    log = GOOD.replace("1795466854,x.null.a,artifact,1,end\n", "")
    done = finish(fold(start("x.null.a"), log))
    assert done.builds["x.null.a"].status is BuildStatus.UNVERIFIED
    assert done.builds["x.null.a"].artifacts, "kept as hints"


CANCEL = "1795466852,,ui,error,Cancelling build after receiving terminated\n"


def test_finished_after_a_cancel_is_cancelled() -> None:
    log = "".join((*LINES[:3], CANCEL, *LINES[3:]))
    done = finish(fold(start("x.null.a"), log), 0, "cancelled")
    assert done.builds["x.null.a"].status is BuildStatus.CANCELLED
    assert done.run.status is RunStatus.CANCELLED


def test_finished_before_a_cancel_is_unverified_without_artifacts() -> None:
    done = finish(fold(start("x.null.a"), "".join((*LINES[:6], CANCEL))), 1, "cancelled")
    assert done.builds["x.null.a"].status is BuildStatus.UNVERIFIED


def test_a_provisioner_cannot_forge_a_verdict() -> None:
    forged = """\
1795466850,,ui,message,    x.null.a: Build 'x.null.a' finished after 1 second.
1795466850,,ui,say,==> x.null.a: Build 'x.null.b' finished after 1 second.
1795466850,,ui,message,    x.null.a: \\nBuild 'x.null.a' finished after 1 second.
1795466850,,ui,message,    x.null.a: \\n==> Builds finished. The artifacts
1795466850,,ui,message,    x.null.a: Cancelling build after receiving terminated
1795466850,,ui,message,    x.null.a: 1795466854%!(PACKER_COMMA)x.null.a
"""
    folded = fold(start("x.null.a", "x.null.b"), forged)
    assert not any(build.evidence.finished for build in folded.builds.values())
    assert not folded.run.closed
    assert not folded.run.cancelled


def test_an_error_is_kept_with_the_step_that_failed() -> None:
    log = """\
1795466850,,ui,say,==> x.null.a: Running local shell script: /tmp/1
1795466851,,ui,say,==> x.null.a: Provisioning step had errors: Running the cleanup
1795466851,,ui,error,Build 'x.null.a' errored after 1 second: Script: exited%!(PACKER_COMMA) 1.
1795466851,,error-count,1
1795466851,x.null.a,error,Script: exited%!(PACKER_COMMA) 1.
1795466851,,ui,say,\\n==> Builds finished but no artifacts were created.
"""
    build = finish(fold(start("x.null.a"), log), 1).builds["x.null.a"]
    assert (build.status, build.error) == (BuildStatus.FAILED, "Script: exited, 1.")
    assert [step.status for step in build.provisioners] == [StepStatus.FAILED, StepStatus.SKIPPED]
    assert build.provisioners[0].error == build.error


def test_a_source_that_was_never_started_has_failed() -> None:
    done = finish(fold(start("x.null.a", "x.null.b"), GOOD), 1)
    assert done.builds["x.null.b"].status is BuildStatus.FAILED
    assert done.builds["x.null.a"].status is BuildStatus.COMPLETE
    assert done.run.status is RunStatus.FAILED


def test_a_retry_is_the_same_provisioner() -> None:
    log = """\
1795466850,,ui,say,==> x.null.a: Running local shell script: /tmp/1
1795466850,,ui,say,==> x.null.a: Provisioner failed with "x"%!(PACKER_COMMA) \
retrying with 1 trie(s) left
1795466850,,ui,say,==> x.null.a: Running local shell script: /tmp/1
"""
    build = fold(start("x.null.a"), log).builds["x.null.a"]
    assert [step.status for step in build.provisioners] == [StepStatus.RUNNING, StepStatus.PENDING]


@pytest.mark.parametrize("name", ["ünï.null.a", "a 'quoted' one", "with: colon", "日本", "x (y)"])
def test_names_may_be_anything(name: str) -> None:
    done = finish(fold(start(name, name[:1]), GOOD.replace("x.null.a", name)), 1)
    assert done.builds[name].status is BuildStatus.COMPLETE


def test_timestamps_before_texts_are_no_obstacle() -> None:
    log = GOOD.replace("say,", "say,2026-11-23T20:47:37Z: ").replace("Z: \\n", "Z: \\n")
    log = log.replace("2026-11-23T20:47:37Z: \\n", "\\n")
    assert finish(fold(start("x.null.a"), log)).run.status is RunStatus.COMPLETE


def test_an_instance_is_learned_from_the_output() -> None:
    log = """\
1795466850,,ui,message,    x.null.a: Instance ID: i-0123
1795466850,,ui,message,    x.null.a: Public IP: 198.51.100.7
"""
    found = fold(start("x.null.a"), log).builds["x.null.a"].instance
    assert found is not None
    assert (found.id, found.addresses) == ("i-0123", ("198.51.100.7",))


def _stored(folded: Outcome) -> Outcome:
    """As it comes back from the store."""
    data = msgspec.json.encode(folded)
    document = msgspec.json.decode(data)
    builds = {name: msgspec.convert(build, Build) for name, build in document["builds"].items()}
    return Outcome(msgspec.convert(document["run"], Run), builds)


noise = st.sampled_from(
    [
        CANCEL,
        "panic: runtime error\n",
        "1795466850,,ui,say,==> x.null.b: Provisioning step had errors\n",
        "1795466850,x.null.b,artifact,7,id,x\n",
        "1795466850,x.null.b,artifact-count,many\n",
        "1795466850,other,error,who\n",
        *LINES,
    ]
)


@settings(max_examples=200, deadline=None)
@given(log=st.lists(noise, max_size=40), cut=st.integers(0, 40))
def test_a_fold_can_be_taken_up_anywhere(log: list[str], cut: int) -> None:
    whole = fold(start("x.null.a", "x.null.b"), "".join(log))
    half = _stored(fold(start("x.null.a", "x.null.b"), "".join(log[:cut])))
    again = fold(half, "".join(log[cut:]))
    assert again == whole
    assert finish(again, None, "interrupted") == finish(whole, None, "interrupted")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_line_is_too_strange(data: bytes) -> None:
    line = lines.parse(data)
    if line:
        folded = outcome.apply(start("x"), line)
        msgspec.json.encode(folded)


@given(st.lists(st.binary(max_size=50)))
def test_splitting_loses_nothing(pieces: list[bytes]) -> None:
    rest, found = b"", []
    for piece in pieces:
        whole, rest = lines.split(rest + piece)
        found += whole
    assert b"".join(found) + rest == b"".join(pieces)
    assert all(line.endswith(b"\n") for line in found)


def test_a_line_without_end_is_given_out_in_pieces() -> None:
    data = b"x" * (3 * lines.MAX_LINE)
    whole, rest = lines.split(data)
    assert b"".join(whole) + rest == data
    assert len(whole) > 1
    assert len(rest) < 2 * lines.MAX_LINE


TREE = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build {
      name    = "x"
      sources = ["null.a", "null.b"]
      provisioner "shell-local" { inline = ["true"] }
      provisioner "shell-local" {
        name   = "second"
        inline = ["true"]
      }
      post-processor "manifest" {}
      post-processors {
        post-processor "checksum" {
          name           = "sums"
          checksum_types = ["md5"]
        }
        post-processor "manifest" {}
      }
    }
    build { sources = ["null.b"] }
"""


def test_the_outline_of_an_hcl_template(packer: Path, tmp_path: Path) -> None:
    (tmp_path / "t.pkr.hcl").write_text(TREE)
    found = outline.outline(_inspect(packer, tmp_path / "t.pkr.hcl"), tmp_path / "t.pkr.hcl")
    assert [each.name for each in found] == ["x.null.a", "x.null.b", "null.b"]
    assert {each.type for each in found} == {"null"}
    assert found[0].provisioners == (("shell-local", ""), ("shell-local", "second"))
    assert found[0].post_processors == (("manifest", ""), ("checksum", "sums"), ("manifest", ""))
    assert found[2].provisioners == found[2].post_processors == ()


def test_the_outline_of_a_json_template(packer: Path, tmp_path: Path) -> None:
    document = {
        "builders": [
            {"type": "null", "communicator": "none"},
            {"type": "file", "name": "f", "content": "x", "target": "t"},
        ],
        "provisioners": [
            {"type": "shell-local", "inline": ["true"]},
            {"type": "shell-local", "only": ["f"], "inline": ["true"]},
        ],
        "post-processors": ["manifest", [{"type": "checksum", "except": ["null"]}, "manifest"]],
    }
    (tmp_path / "t.json").write_bytes(msgspec.json.encode(document))
    path = tmp_path / "t.json"
    found = {each.name: each for each in outline.outline(_inspect(packer, path), path)}
    assert {name: build.type for name, build in found.items()} == {"f": "file", "null": "null"}
    assert [len(found[name].provisioners) for name in ("f", "null")] == [2, 1]
    assert [kind for kind, _ in found["null"].post_processors] == ["manifest", "manifest"]


def _inspect(packer: Path, template: Path) -> str:
    command = [str(packer), "inspect", "-machine-readable", str(template)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("flag", "pattern"),
    [
        *(("only", p) for p in ("null.a", "x.*", "*a", "*.null.?", "x.null.[ab]", "x.null.{a,q}")),
        *(("only", p) for p in ("*", "null.*", "x.null.[!a]", "x.null.a*", "nothing")),
        *(("except", p) for p in ("x.null.a", "x.*", "*b", "null.b")),
    ],
)
def test_selection_is_packers_own(packer: Path, tmp_path: Path, flag: str, pattern: str) -> None:
    (tmp_path / "t.pkr.hcl").write_text(TREE)
    names = [
        each.name
        for each in outline.outline(
            _inspect(packer, tmp_path / "t.pkr.hcl"), tmp_path / "t.pkr.hcl"
        )
    ]
    chosen = {"only": (), "except": (), flag: tuple(pattern.split(","))}
    ours = selection.select(names, chosen["only"], chosen["except"], hcl=True)
    done = subprocess.run(
        [str(packer), "build", "-machine-readable", f"-{flag}={pattern}", "t.pkr.hcl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    folded = fold(outcome.begin(run(), ()), done.stdout)
    assert set(folded.builds) == set(ours)
