"""Statuses that an option names."""

from __future__ import annotations


def check(given: str | None) -> str:
    """`given`, "" for None. Raises UsageError if no build and no run has such a status."""
    from packer_fork.errors import UsageError
    from packer_fork.model import BuildStatus, RunStatus

    known = sorted({str(each) for each in (*BuildStatus, *RunStatus)})
    if given and given not in known:
        raise UsageError(
            f"--status: there is no status {given!r}", hint=f"choose one of: {', '.join(known)}"
        )
    return given or ""
