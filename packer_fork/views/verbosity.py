"""How much of a build's output is shown."""

from __future__ import annotations

from enum import StrEnum

from packer_fork import events

_PACKER_SUMMARIES = ("Build '", "==> Builds finished", "==> Some builds didn't complete", "--> ")
"""Beginnings of the texts in which Packer sums up its builds."""


class Verbosity(StrEnum):
    """``QUIET``: problems and results; ``IMPORTANT``: without each line of each step."""

    QUIET = "quiet"
    IMPORTANT = "important"
    ALL = "all"


def is_shown(verbosity: Verbosity, event: events.Event) -> bool:
    """Whether `event` is shown at this verbosity."""
    if verbosity is Verbosity.ALL:
        return True
    match event:
        case events.Notice():
            return verbosity is Verbosity.IMPORTANT or event.level != "info"
        case events.Output():
            is_wrong = event.kind in ("error", "stderr")
            return is_wrong or (verbosity is Verbosity.IMPORTANT and _is_summary(event.text))
        case events.ItemEnded() | events.RunEnded() | events.MachineLine():
            return True
        case events.Kept() | events.Cancelling():
            return True
    return verbosity is Verbosity.IMPORTANT


def _is_summary(text: str) -> bool:
    return text.lstrip("\n").startswith(_PACKER_SUMMARIES)
