"""Which provisioner or post-processor of a build is running, as far as its output tells. Pure.

The order is known from the template; what a type prints when it begins moves the
build on. Some print nothing, so each status says whether it was observed or
follows from the order, and nothing that matters hangs on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from msgspec import structs

from packer_fork.model import KnownBy, Step, StepStatus

_MARKERS = {
    "shell": "Provisioning with shell script:",
    "shell-local": "Running local shell script:",
    "powershell": "Provisioning with powershell script:",
    "windows-shell": "Provisioning with shell script:",
    "file": r"(?:Uploading .* => |Downloading .* => )",
    "ansible": r"Provisioning with Ansible\.\.\.",
    "ansible-local": r"Provisioning with Ansible\.\.\.",
    "puppet-masterless": r"Provisioning with Puppet\.\.\.",
    "puppet-server": r"Provisioning with Puppet\.\.\.",
    "windows-restart": "Restarting Machine",
}
_BEGINS = {kind: re.compile(marker) for kind, marker in _MARKERS.items()}
_POST_PROCESSOR = re.compile(r"Running post-processor: (?P<name>.*?)(?: \(type (?P<type>.*)\))?")
_RETRY = re.compile(r"retrying with \d+ trie\(s\) left")

Steps = tuple[Step, ...]


def begins_provisioner(steps: Steps, text: str, at: datetime) -> Steps:
    """`steps` after `text` of the build's output; the same object if it tells nothing."""
    if _RETRY.search(text):
        return tuple(_noted(step, text) for step in steps)
    again = next((step for step in steps if step.error and _begins(step, text)), None)
    if again is not None:
        return tuple(_noted(step, "") for step in steps)
    return _move_on(steps, lambda step: _begins(step, text), at)


def _noted(step: Step, error: str) -> Step:
    """A running step with why it is tried again; its next beginning is no new step."""
    running = step.status is StepStatus.RUNNING
    return structs.replace(step, error=error) if running else step


def _begins(step: Step, text: str) -> bool:
    marker = _BEGINS.get(step.type)
    return marker is not None and marker.match(text) is not None


def is_post_processor(text: str) -> bool:
    return text.startswith("Running post-processor: ")


def begins_post_processor(steps: Steps, text: str, at: datetime) -> Steps:
    """As `begins_provisioner`; post-processors name themselves, in one of three forms."""
    found = _POST_PROCESSOR.fullmatch(text)
    if found is None:
        return steps
    kind, name = found["type"] or found["name"], found["name"] if found["type"] else ""
    return _move_on(steps, lambda step: step.type == kind and name in ("", step.name), at)


def _move_on(steps: Steps, matches: Callable[[Step], bool], at: datetime) -> Steps:
    """The next pending step that matches begins; those before it must have ended."""
    for index, step in enumerate(steps):
        if step.status is StepStatus.PENDING and matches(step):
            running = structs.replace(
                step, status=StepStatus.RUNNING, started=at, known_by=KnownBy.OBSERVED
            )
            return (*end_all(steps[:index], at), running, *steps[index + 1 :])
    return steps


def end_all(steps: Steps, at: datetime) -> Steps:
    """Every step that had not ended has, by what came after it."""
    if not any(step.status in _OPEN for step in steps):
        return steps
    return tuple(
        structs.replace(step, status=StepStatus.COMPLETE, ended=at)
        if step.status in _OPEN
        else step
        for step in steps
    )


def fail(steps: Steps, at: datetime, error: str) -> Steps:
    """The one that was running failed, the rest was not reached."""
    return tuple(_failed(step, at, error) for step in steps)


def _failed(step: Step, at: datetime, error: str) -> Step:
    if step.status is StepStatus.RUNNING:
        return structs.replace(step, status=StepStatus.FAILED, ended=at, error=error)
    if step.status is StepStatus.PENDING:
        return structs.replace(step, status=StepStatus.SKIPPED)
    return step


def leave_open(steps: Steps) -> Steps:
    """Nobody saw the end: what was running is unknown, what was not reached is skipped."""
    return tuple(
        structs.replace(step, status=_UNSEEN[step.status]) if step.status in _UNSEEN else step
        for step in steps
    )


_OPEN = frozenset((StepStatus.PENDING, StepStatus.RUNNING))
_UNSEEN = {StepStatus.RUNNING: StepStatus.UNKNOWN, StepStatus.PENDING: StepStatus.SKIPPED}
