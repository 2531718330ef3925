"""Everything that packer-fork says no with, and the exit code of each.

    PackerForkError                 70  our own fault unless a subclass says otherwise
    ├── UsageError                   2  the command line or a setting makes no sense
    ├── StateError                  10  the state is damaged or of a newer format
    │   ├── DamagedError
    │   └── NewerFormatError
    ├── LockedError                 11  somebody else holds the lock
    ├── LockLostError               12  our lock was closed under us
    ├── TemplateError               14  template or Packer unusable, or Packer refuses it
    │   └── PackerError
    ├── StoreError                  15  store unreachable or not writable
    └── CancelledError          128 + n  signal n came while no Packer was running

``message`` is one sentence that says what is wrong and where; ``hint`` says what to do.
A foreign exception is translated at the edge where it arises, never shown.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_DONE = 0
EXIT_PACKER_FAILED = 1
EXIT_USAGE = 2
EXIT_STATE = 10
EXIT_LOCKED = 11
EXIT_LOCK_LOST = 12
EXIT_OUTBOX = 13
EXIT_TEMPLATE = 14
EXIT_STORE = 15
EXIT_TO_BUILD = 20
EXIT_INTERNAL = 70


class PackerForkError(Exception):
    """Root of all; ``exit_code`` is what the command ends with."""

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PackerForkError):
    exit_code = EXIT_USAGE


class StateError(PackerForkError):
    exit_code = EXIT_STATE


class DamagedError(StateError):
    """Stored bytes are not what was written. Nothing is overwritten until it is repaired."""

    def __init__(self, path: str, offset: int, what: str, *, lost: str = "") -> None:
        where = f"{path}, byte {offset}"
        super().__init__(
            f"The state is damaged: {where}: {what}{f'; {lost}' if lost else ''}.",
            hint=(
                "nothing was changed; `packer-fork state check` lists the damage, "
                "`packer-fork state check --repair` shows what is recoverable"
            ),
        )
        self.path = path
        self.offset = offset
        self.what = what
        self.lost = lost


class NewerFormatError(StateError):
    def __init__(self, path: str, version: int, ours: int) -> None:
        super().__init__(
            f"{path} has format version {version}; this packer-fork reads up to {ours}.",
            hint="Upgrade packer-fork; the file was not touched.",
        )


class LockedError(PackerForkError):
    exit_code = EXIT_LOCKED


class LockLostError(PackerForkError):
    exit_code = EXIT_LOCK_LOST


class TemplateError(PackerForkError):
    exit_code = EXIT_TEMPLATE


class PackerError(TemplateError):
    """Packer itself is missing, too old, or could not be started."""


class StoreError(PackerForkError):
    exit_code = EXIT_STORE


class CancelledError(PackerForkError):
    """A signal asked us to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__("Cancelled.")
        self.exit_code = 128 + number


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """The hint about a name that there is not: which one may have been meant, if any."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise
