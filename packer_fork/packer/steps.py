"""Which provisioner or post-processor of a build is at work, from what Packer says of it.

Post-processors are announced one by one. Provisioners are not: most types begin with
words of their own, some print nothing at all, and a few repeat themselves for every
script or file. So where one stands may be inferred or unknown, its output may look like
the beginning of the next, and nothing that matters hangs on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from msgspec import Struct, structs

from packer_fork.model import Build, BuildStatus, KnownBy, Step, StepStatus

Steps = tuple[Step, ...]


class _Beginning(Struct, frozen=True):
    """Words that provisioners of these types begin with, `repeated` for every file or script."""

    words: re.Pattern[str]
    types: tuple[str, ...]
    repeated: bool


def _begins(words: str, *types: str, repeated: bool = False) -> _Beginning:
    return _Beginning(re.compile(words), types, repeated)


_BEGINNINGS = (
    _begins("Provisioning with shell script: ", "shell", repeated=True),
    _begins("Running local shell script: ", "shell-local", repeated=True),
    _begins("(?:Up|Down)loading .* => ", "file", repeated=True),
    _begins("Provisioning with powershell script: ", "powershell", repeated=True),
    _begins(r"Provisioning with windows-shell\.\.\.", "windows-shell"),
    _begins("Breakpoint provisioner disabled|Pausing at breakpoint provisioner", "breakpoint"),
    _begins("Restarting Machine", "windows-restart"),
    _begins(r"Provisioning with Ansible\.\.\.", "ansible", "ansible-local"),
    _begins(r"Provisioning with Puppet\.\.\.", "puppet-masterless", "puppet-server"),
    _begins(r"Provisioning with Salt\.\.\.", "salt-masterless"),
    _begins("Provisioning with chef-(?:client|solo)", "chef-client", "chef-solo"),
    _begins(r"Provisioning with Inspec\.\.\.", "inspec"),
    _begins("Provisioning with Converge", "converge"),
)
_TELLING = {kind for beginning in _BEGINNINGS for kind in beginning.types}
"""Types that never begin without a word."""

_FAILED = "Provisioning step had errors: "
_RETRY = re.compile(r"Provisioner failed with .*, retrying with \d+ trie\(s\) left", re.DOTALL)
_POST_PROCESSOR = "Running post-processor: "


def heard(build: Build, text: str, at: datetime) -> Build:
    """`build` after Packer has said `text` of it in its own tone; the same if it means nothing."""
    if text.startswith(_POST_PROCESSOR):
        return _post_processor(build, text.removeprefix(_POST_PROCESSOR), at)
    if build.status is BuildStatus.POST_PROCESSING:
        return build
    if text.startswith(_FAILED):
        return _change(build, lambda step: _ended(step, StepStatus.FAILED, at))
    if _RETRY.match(text):
        return _change(build, lambda step: structs.replace(step, error=text))
    beginning = next((each for each in _BEGINNINGS if each.words.match(text)), None)
    return _provisioner(build, beginning, at) if beginning else build


def run_through(build: Build, at: datetime) -> Build:
    """No step left open in a build that has come to its end without an error."""
    return structs.replace(
        build,
        provisioners=_settled(build.provisioners, StepStatus.COMPLETE, at),
        post_processors=_settled(build.post_processors, StepStatus.COMPLETE, at, announced=True),
    )


def cut_short(build: Build, at: datetime) -> Build:
    """No step left open in a build that has ended in the middle, or has never begun."""
    never = build.status is BuildStatus.PENDING
    return structs.replace(
        build,
        provisioners=_settled(build.provisioners, StepStatus.UNKNOWN, at, announced=never),
        post_processors=_settled(build.post_processors, StepStatus.UNKNOWN, at, announced=True),
    )


def failed(build: Build, at: datetime, error: str) -> Build:
    """No step left open in a build that has failed, with `error` at the step that it is from."""
    if build.status is not BuildStatus.POST_PROCESSING:
        after = cut_short(build, at)
        told = tuple(_with_error(step, error) for step in after.provisioners)
        return structs.replace(after, provisioners=told)
    begun = [each for each in build.post_processors if each.status is not StepStatus.PENDING]
    # One that fails does not keep those of other lists from running: whose error is it?
    became = StepStatus.FAILED if len(begun) == 1 else StepStatus.UNKNOWN
    told = tuple(
        _with_error(_ended(step, became, step.ended or at), error) if step in begun else step
        for step in build.post_processors
    )
    return cut_short(structs.replace(build, post_processors=told), at)


def _post_processor(build: Build, announced: str, at: datetime) -> Build:
    """Up to 1.6.6 an unnamed one of HCL2 is announced with an empty name."""
    steps = build.post_processors
    begun = [number for number, step in enumerate(steps) if step.started]
    first = begun[-1] + 1 if begun else 0
    number = next(
        (
            number
            for number, step in enumerate(steps[first:], first)
            if announced in (step.type, f"{step.name} (type {step.type})")
        ),
        None,
    )
    if number is None and steps:
        return build
    after = structs.replace(
        build,
        status=BuildStatus.POST_PROCESSING,
        provisioners=_settled(build.provisioners, StepStatus.COMPLETE, at),
    )
    if number is None:
        return after
    return structs.replace(after, post_processors=_moved(steps, number, at, KnownBy.OBSERVED))


def _provisioner(build: Build, beginning: _Beginning, at: datetime) -> Build:
    after = structs.replace(build, status=BuildStatus.PROVISIONING)
    steps = build.provisioners
    if any(step.status is StepStatus.FAILED for step in steps):
        return after  # what runs now is there to clean up
    current = next((n for n, step in enumerate(steps) if step.status is StepStatus.RUNNING), None)
    again = current is not None and steps[current].type in beginning.types
    if again and current is not None and steps[current].error:
        return _change(after, lambda step: structs.replace(step, error=""))
    number = _next(steps, beginning, current, again=again)
    if number is None:
        return after
    known_by = KnownBy.INFERRED if again and beginning.repeated else KnownBy.OBSERVED
    return structs.replace(after, provisioners=_moved(steps, number, at, known_by))


def _next(steps: Steps, beginning: _Beginning, current: int | None, *, again: bool) -> int | None:
    """Which step has begun; none if it is still the same one, or none that is known."""
    for number, step in enumerate(steps):
        if step.status is StepStatus.PENDING and (current is None or number > current):
            if step.type in beginning.types:
                return number
            if again and beginning.repeated and step.type in _TELLING:
                return None
    return None


def _moved(steps: Steps, number: int, at: datetime, known_by: KnownBy) -> Steps:
    """`steps` with the one of this number at work, and those before it over."""
    begun = structs.replace(steps[number], status=StepStatus.RUNNING, started=at, known_by=known_by)
    return (*_settled(steps[:number], StepStatus.COMPLETE, at), begun, *steps[number + 1 :])


def _settled(steps: Steps, running: StepStatus, at: datetime, *, announced: bool = False) -> Steps:
    """`steps` of which none is open; whichever were `announced` did not run without a word."""
    has_failed = any(step.status is StepStatus.FAILED for step in steps)
    return tuple(
        _ended(step, running, at)
        if step.status is StepStatus.RUNNING
        else _passed_over(step, ran_never=announced or has_failed)
        for step in steps
    )


def _passed_over(step: Step, *, ran_never: bool) -> Step:
    if step.status is not StepStatus.PENDING:
        return step
    is_sure = ran_never or step.type in _TELLING
    return structs.replace(step, status=StepStatus.SKIPPED if is_sure else StepStatus.UNKNOWN)


def _ended(step: Step, status: StepStatus, at: datetime) -> Step:
    return structs.replace(step, status=status, ended=at, error="")


def _with_error(step: Step, error: str) -> Step:
    return structs.replace(step, error=error) if step.status is StepStatus.FAILED else step


def _change(build: Build, change: Callable[[Step], Step]) -> Build:
    """`build` with its running provisioner changed; the same if none is."""
    steps = tuple(
        change(step) if step.status is StepStatus.RUNNING else step for step in build.provisioners
    )
    return build if steps == build.provisioners else structs.replace(build, provisioners=steps)
