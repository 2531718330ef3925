"""Why a build failed: the step that failed, where it stands in the template, its exit status."""

from __future__ import annotations

import re

from packer_fork.model import Build, Step, StepStatus

_EXIT = re.compile(r"non-zero exit (?:status|code): *(\d+)|exit(?:ed with)? status (\d+)")


def cause(build: Build) -> str:
    """``provisioner 2 (shell "install"), t.pkr.hcl:7, exit status 9``; empty without an error."""
    error = _first_line(build.error)
    found = _failed_step(build)
    if found is None:
        return error
    kind, position, step = found
    name = f'{step.type} "{step.name}"' if step.name else step.type
    parts = [f"{kind} {position} ({name})", step.at, exit_status(step.error or build.error)]
    where = ", ".join(part for part in parts if part)
    told = parts[-1] or not error
    return where if told else f"{where}: {error}"


def exit_status(error: str) -> str:
    """``exit status 9`` if `error` names one."""
    found = _EXIT.search(error)
    return f"exit status {found[1] or found[2]}" if found else ""


def _failed_step(build: Build) -> tuple[str, int, Step] | None:
    steps = (("provisioner", build.provisioners), ("post-processor", build.post_processors))
    for kind, of_kind in steps:
        for position, step in enumerate(of_kind, 1):
            if step.status is StepStatus.FAILED:
                return kind, position, step
    return None


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]
