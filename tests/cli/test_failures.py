"""Why a build failed: its cause in one line, and lines of its output that look like it."""

from datetime import UTC, datetime

import pytest

from packer_fork import events
from packer_fork.failures import cause
from packer_fork.model import Build, BuildStatus, Step, StepStatus
from packer_fork.views import ci
from packer_fork.views.console import Color, choose_color, color_of
from packer_fork.views.output import SCREEN, Transcript

EXIT = "Script exited with non-zero exit status: 9.Allowed exit codes are: [0]"
OLD = Step(type="shell", status=StepStatus.COMPLETE)


def failed(step: Step, error: str = EXIT, *, is_post: bool = False) -> Build:
    steps = (OLD, step)
    return Build(
        name="a",
        status=BuildStatus.FAILED,
        error=error,
        provisioners=() if is_post else steps,
        post_processors=steps if is_post else (),
    )


STEP = Step(type="shell", name="install", at="t.pkr.hcl:7", status=StepStatus.FAILED, error=EXIT)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (failed(STEP), 'provisioner 2 (shell "install"), t.pkr.hcl:7, exit status 9'),
        (
            failed(Step(type="ansible", status=StepStatus.FAILED), "no host\nmore"),
            "provisioner 2 (ansible): no host",
        ),
        (
            failed(Step(type="manifest", status=StepStatus.FAILED), "", is_post=True),
            "post-processor 2 (manifest)",
        ),
        (Build(name="a", error="\nno network\nmore"), "no network"),
        (Build(name="a"), ""),
    ],
)
def test_the_cause_names_the_step_its_place_and_its_exit_status(
    build: Build, expected: str
) -> None:
    assert cause(build) == expected


def transcript(*lines: str, is_shown: bool = False) -> Transcript:
    found = Transcript()
    for line in lines:
        found.add(output(line), is_shown=is_shown)
    return found


def output(line: str, build: str = "a") -> events.Output:
    text = f"    {build}: {line}"
    return events.Output(at=datetime.now(UTC), kind="message", text=text, build=build)


def test_lines_that_look_like_the_cause_are_chosen() -> None:
    noise = [f"Get:{n} http://archive/pool" for n in range(20)]
    found = transcript("E: Unable to locate package x", *noise, "tar: cannot open: No such file")
    assert found.likely("a") == ["E: Unable to locate package x", "tar: cannot open: No such file"]
    assert found.likely("b") == []


def test_at_most_three_lines_are_chosen_the_newest() -> None:
    assert transcript(*(f"error {n}" for n in range(9))).likely("a") == [
        *("error 6", "error 7", "error 8")
    ]
    assert transcript(*"abcde").likely("a") == ["c", "d", "e"], "where none looks like a cause"


def test_what_packer_says_of_every_failure_is_no_cause() -> None:
    cleanup = "Provisioning step had errors: Running the cleanup provisioner, if present..."
    assert transcript("disk is full", cleanup, EXIT).likely("a") == ["disk is full"]


def test_what_is_still_on_the_screen_is_not_repeated() -> None:
    found = transcript("error 1", is_shown=True)
    assert found.likely("a") == []
    for number in range(SCREEN):
        found.add(output(f"line {number}", "b"), is_shown=True)
    assert found.likely("a") == ["error 1"], "it has scrolled away"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Color.AUTO),
        ({"TERM": "dumb"}, Color.NEVER),
        ({"CI": "true"}, Color.NEVER),
        ({"CI": "false"}, Color.AUTO),
        ({"CI": "true", "FORCE_COLOR": "1"}, Color.ALWAYS),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, Color.NEVER),
        ({"NO_COLOR": "", "FORCE_COLOR": ""}, Color.AUTO),
    ],
)
def test_the_environment_chooses_the_colour(environ: dict[str, str], expected: Color) -> None:
    assert color_of(environ) is expected
    assert color_of({**environ, "NO_COLOR": ""}, color=False) is Color.NEVER


def test_a_chosen_colour_overrules_the_environment() -> None:
    try:
        choose_color(Color.ALWAYS)
        assert color_of({"NO_COLOR": "1"}, color=False) is Color.ALWAYS
        assert ci.console({"CI": "true"}).color
        choose_color(Color.NEVER)
        assert color_of({"FORCE_COLOR": "1"}) is Color.NEVER
    finally:
        choose_color(Color.AUTO)
    assert color_of({"NO_COLOR": "1"}) is Color.NEVER
