"""Which step of a build is at work, and which one is blamed for a failure."""

from datetime import UTC, datetime

import pytest

from packer_fork.model import Build, BuildStatus, KnownBy, Step, StepStatus
from packer_fork.packer import steps

AT = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = "Provisioning step had errors: Running the cleanup provisioner, if present..."
EXIT = "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]"
CHECKSUM = "Running post-processor: checksum"
RETRY = 'Provisioner failed with "no", retrying with 2 trie(s) left'


def local(path: str = "/tmp/packer-shell1") -> str:
    return f"Running local shell script: {path}"


def inline(**fields: object) -> Step:
    return Step(type="shell-local", **{"scripts": ("",), **fields})  # type: ignore[arg-type]


def scripts(*paths: str) -> Step:
    return Step(type="shell-local", scripts=paths)


ANY = Step(type="shell-local")
MAYBE = inline(is_certain=False)
SILENT = Step(type="sleep")
WINDOWS = Step(type="windows-shell", scripts=("a", "b"))
ANSIBLE = Step(type="ansible")
PLAY = "Provisioning with Ansible..."
UPLOAD = Step(type="file", scripts=("a", "b"))


def heard(provisioners: list[Step], *texts: str, by_script: bool = True) -> Build:
    build = Build(
        name="n",
        type="null",
        status=BuildStatus.CREATING,
        started=AT,
        provisioners=tuple(provisioners),
        post_processors=(Step(type="checksum"),),
    )
    for text in texts:
        build = steps.heard(build, text, AT, by_script=by_script)
    return build


def short(build: Build) -> str:
    return " ".join(step.status for step in build.provisioners)


@pytest.mark.parametrize(
    ("provisioners", "texts", "expected"),
    [
        ([scripts("a", "b"), scripts("a")], [local("a"), local("b")], "running pending"),
        ([scripts("a", "b"), scripts("a")], [local("a"), local("a")], "running pending"),
        ([scripts("a", "b"), scripts("a")], [*map(local, "aba")], "complete running"),
        ([inline(), inline()], [local(), local()], "complete running"),
        ([inline(), inline()], [local(), local("x.sh")], "running pending"),
        ([inline(), scripts("x.sh")], [local(), local("y.sh")], "running pending"),
        ([ANY, ANY], [local(), local()], "unknown unknown"),
        ([ANY, ANSIBLE, ANY], [local(), local(), PLAY], "complete running pending"),
        ([MAYBE, inline()], [local()], "unknown unknown"),
        ([MAYBE, inline()], [local(), local()], "unknown running"),
        ([MAYBE, ANSIBLE], [PLAY], "skipped running"),
        ([SILENT, inline()], [local()], "complete running"),
        ([inline(), SILENT, ANSIBLE], [local(), PLAY], "complete complete running"),
        ([inline(), ANSIBLE, inline()], [local(), local()], "running pending pending"),
        ([UPLOAD, UPLOAD], ["Uploading a => /x", "Uploading b => /x"], "running pending"),
        ([inline(), inline()], [local(), RETRY, local()], "running pending"),
        ([inline(), inline()], [local(), CHECKSUM], "running pending"),
        ([inline()], [local(), CHECKSUM, RETRY, local()], "running"),
        ([WINDOWS, inline()], ["Provisioning with windows-shell...", local()], "complete running"),
    ],
)
def test_the_step_at_work(provisioners: list[Step], texts: list[str], expected: str) -> None:
    assert short(heard(provisioners, *texts)) == expected


@pytest.mark.parametrize(
    ("provisioners", "texts", "expected"),
    [
        ([inline(), inline()], [local()], "failed skipped"),
        ([inline(), inline()], [local(), local()], "complete failed"),
        ([inline(), inline()], [local(), CHECKSUM], "failed skipped"),
        ([inline()], [local(), CHECKSUM], "failed"),
        ([inline(), inline()], [local(), local(), CHECKSUM], "complete failed"),
        ([scripts("a", "b"), scripts("a")], [local("a"), local("b")], "failed skipped"),
        ([inline(), SILENT, inline()], [local()], "unknown unknown skipped"),
        ([scripts("a", "b"), SILENT], [local("a")], "failed skipped"),
        ([SILENT], [], "failed"),
        ([SILENT, SILENT], [], "unknown unknown"),
        ([MAYBE, inline()], [local()], "unknown unknown"),
        ([ANY, ANY, ANSIBLE], [local(), local()], "unknown unknown skipped"),
        ([inline(), inline()], [local(), RETRY], "failed skipped"),
    ],
)
def test_the_step_that_failed(provisioners: list[Step], texts: list[str], expected: str) -> None:
    build = heard(provisioners, *texts, FAILED, local())
    done = steps.failed(build, AT, EXIT)
    assert short(done) == expected
    errors = [step.error for step in done.provisioners]
    assert errors == [EXIT if each == "failed" else "" for each in expected.split()]
    assert [str(step.status) for step in done.post_processors] == ["skipped"]


@pytest.mark.parametrize(
    ("provisioners", "texts", "expected"),
    [
        ([inline(), inline()], [local(), local(), CHECKSUM], "complete complete"),
        ([ANY, ANY], [local(), local(), CHECKSUM], "complete complete"),
        ([MAYBE, inline()], [local(), CHECKSUM], "unknown complete"),
        ([MAYBE, ANSIBLE], [PLAY, CHECKSUM], "skipped complete"),
        ([SILENT], [CHECKSUM], "complete"),
    ],
)
def test_a_build_that_has_run_through(
    provisioners: list[Step], texts: list[str], expected: str
) -> None:
    done = steps.run_through(heard(provisioners, *texts), AT)
    assert short(done) == expected
    assert [str(step.status) for step in done.post_processors] == ["complete"]


LIAR = inline(sounds_like_packer=True)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([local()], "running pending"),
        ([local(), local()], "unknown unknown"),
        ([local(), FAILED], "running pending"),
        ([local(), RETRY, local()], "unknown unknown"),
    ],
)
def test_a_script_that_holds_packers_words_makes_them_doubtful(
    texts: list[str], expected: str
) -> None:
    build = heard([LIAR, inline()], *texts)
    assert short(build) == expected
    assert "failed" not in short(steps.failed(build, AT, EXIT))
    assert short(steps.run_through(build, AT)).startswith("complete")


def test_before_packer_1_13_no_script_speaks_in_its_tone() -> None:
    assert short(heard([LIAR, inline()], local(), local(), by_script=False)) == "complete running"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'Running post-processor: checksum'", False),
        ("echo 'Provisioning step had errors: no'", True),
        ("echo 'Running local shell script: b.sh'", True),
        ("packer build other.pkr.hcl; echo Uploading", False),
        ("", False),
    ],
)
def test_the_words_of_packer_in_a_script(script: str, *, expected: bool) -> None:
    assert steps.sound_like_packer(script) is expected


def test_an_error_of_the_builder_blames_no_step() -> None:
    done = steps.failed(heard([inline()], local()), AT, "Error stopping instance: no")
    assert short(done) == "unknown"


def test_an_error_without_a_post_processor_proves_that_a_script_announced_it() -> None:
    """As with ``-on-error=abort``, when Packer does not say that provisioning failed."""
    done = steps.failed(heard([inline()], local(), CHECKSUM), AT, EXIT)
    assert short(done) == "unknown"
    assert [str(step.status) for step in done.post_processors] == ["skipped"]


def test_what_a_script_may_have_printed_is_inferred() -> None:
    for by_script, known_by in ((False, KnownBy.OBSERVED), (True, KnownBy.INFERRED)):
        first, second = heard(
            [inline(), inline()], local(), local(), by_script=by_script
        ).provisioners
        assert (first.known_by, second.known_by) == (KnownBy.OBSERVED, known_by)


def test_a_failure_that_a_script_may_have_told_is_inferred() -> None:
    """Only behind the last step no other can have gone on."""
    two, one = [inline(), inline()], [inline()]
    for provisioners, by_script, known_by in (
        (two, True, KnownBy.INFERRED),
        (two, False, KnownBy.OBSERVED),
        (one, True, KnownBy.OBSERVED),
    ):
        build = heard(provisioners, local(), FAILED, by_script=by_script)
        assert build.provisioners[0].status is StepStatus.FAILED
        assert build.provisioners[0].known_by is known_by


def test_of_two_failures_that_a_build_tells_one_is_a_scripts() -> None:
    build = heard([inline()] * 3, local(), local(), FAILED, local(), FAILED)
    assert short(steps.failed(build, AT, EXIT)) == "complete unknown unknown"
    build = heard([inline()] * 2, local(), FAILED, FAILED, by_script=False)
    assert short(steps.failed(build, AT, EXIT)) == "failed skipped"


def test_packers_own_words_count_more_than_the_template() -> None:
    build = heard([scripts("a"), ANSIBLE], local("elsewhere/a"), by_script=False)
    assert short(build) == "running pending"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.6.6", False), ("1.12.0-dev", False), ("1.13.0", True), ("1.16.0", True), ("", False)],
)
def test_since_when_scripts_sound_like_packer(version: str, *, expected: bool) -> None:
    assert steps.scripts_sound_like_packer(version) is expected


MULTIPLE = "2 error(s) occurred:\n\n* Post-processor failed: a\n* Post-processor failed: b"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("1 error(s) occurred:\n\n* Post-processor failed: a", "complete unknown unknown"),
        (MULTIPLE, "complete failed failed"),
    ],
)
def test_the_post_processors_that_failed(error: str, expected: str) -> None:
    posts = (Step(type="checksum"), Step(type="compress", is_chained=True), Step(type="manifest"))
    build = Build(name="n", status=BuildStatus.CREATING, post_processors=posts)
    for each in ("checksum", "compress", "manifest"):
        build = steps.heard(build, f"Running post-processor: {each}", AT, by_script=True)
    done = steps.failed(build, AT, error).post_processors
    assert " ".join(step.status for step in done) == expected
    assert all(step.error == error for step in done if step.status is StepStatus.FAILED)


def test_a_chain_that_is_cut_goes_on_with_the_next() -> None:
    posts = (Step(type="checksum"), Step(type="compress", is_chained=True), Step(type="manifest"))
    build = Build(name="n", status=BuildStatus.CREATING, post_processors=posts)
    for each in ("checksum", "manifest"):
        build = steps.heard(build, f"Running post-processor: {each}", AT, by_script=True)
    assert [str(step.status) for step in build.post_processors] == [
        "complete",
        "skipped",
        "running",
    ]
