"""How much is told of a build as it goes on."""

from __future__ import annotations

from enum import StrEnum

from packer_fork import events

_OF_PACKER = ("Build '", "==> Builds finished", "==> Some builds didn't complete", "--> ")
"""How texts begin in which Packer sums up what became of builds."""


class Amount(StrEnum):
    """``QUIET``: what is wrong, and what came of it; ``IMPORTANT``: not each line of each step."""

    QUIET = "quiet"
    IMPORTANT = "important"
    ALL = "all"


def is_told(amount: Amount, event: events.Event) -> bool:
    """Whether `event` is part of so much."""
    if amount is Amount.ALL:
        return True
    match event:
        case events.Notice():
            return amount is Amount.IMPORTANT or event.level != "info"
        case events.Output():
            is_wrong = event.kind in ("error", "stderr")
            return is_wrong or (amount is Amount.IMPORTANT and _is_of_packer(event.text))
        case events.ItemEnded() | events.RunEnded() | events.MachineLine():
            return True
        case events.Kept() | events.Cancelling():
            return True
    return amount is Amount.IMPORTANT


def _is_of_packer(text: str) -> bool:
    return text.lstrip("\n").startswith(_OF_PACKER)
