"""The files of one work item in ``logs/``: what Packer writes, what is masked, how long they stay.

Their names begin with the key of the item, run and number: ``12-3``.

    12-3.log      what a person may read: masked, no control sequences; kept
    12-3.raw      Packer's standard output as it came; only while the item is under way
    12-3.err      Packer's standard error as it came; only while the item is under way
    12-3.secrets  what must be masked, for a recovery; only as long as the raw files

The raw files hold secrets in the clear, as Packer prints them; that is why all of
them are 0600 and go with the final change.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork import durable
from packer_fork.events import Notice, Notify
from packer_fork.malformed import MALFORMED
from packer_fork.terminal import clean

_MAX_SECRETS = 16 << 20


class LogFiles(Struct, frozen=True):
    """The names of one work item's files; ``key`` is the item's."""

    folder: Path
    key: str

    @property
    def masked(self) -> Path:
        return self.folder / f"{self.key}.log"

    @property
    def raw(self) -> Path:
        return self.folder / f"{self.key}.raw"

    @property
    def stderr(self) -> Path:
        return self.folder / f"{self.key}.err"

    @property
    def secrets(self) -> Path:
        return self.folder / f"{self.key}.secrets"

    def keep_secrets(self, values: tuple[str, ...]) -> None:
        durable.replace(self.secrets, msgspec.json.encode(values), durable=False)

    def kept_secrets(self) -> tuple[str, ...] | None:
        """What to mask; None where it is not known any more, so that nothing may be shown."""
        try:
            data = durable.read(self.secrets, _MAX_SECRETS)
            return None if data is None else msgspec.json.decode(data, type=tuple[str, ...])
        except (OSError, *MALFORMED):
            return None

    def forget_raw(self) -> None:
        """Remove what holds secrets, the secrets themselves last."""
        for path in (self.raw, self.stderr, self.secrets):
            path.unlink(missing_ok=True)


def newest(folder: Path) -> int:
    """The highest number of a run that left a log; 0 if none did."""
    return max((number_of(path) for path in folder.glob("*.log") if path.is_file()), default=0)


def number_of(log: Path) -> int:
    """The number of the run that a log is of; 0 if it is none."""
    return _key_of(log)[0]


def of_run(folder: Path, run: int) -> tuple[LogFiles, ...]:
    """The logs of a run's items that are on this machine, in the order of the items."""
    keys = sorted(_key_of(path) for path in folder.glob(f"{run}-*.log"))
    return tuple(LogFiles(folder, f"{run}-{item}") for number, item in keys if number)


def with_raw(folder: Path) -> tuple[LogFiles, ...]:
    """The items whose raw output is here, the oldest first."""
    keys = sorted(_key_of(path) for path in folder.glob("*.raw"))
    return tuple(LogFiles(folder, f"{run}-{item}") for run, item in keys if run)


def _key_of(path: Path) -> tuple[int, int]:
    """The numbers of run and item that a file is named for; zeros if it is another file."""
    run, _, item = path.stem.partition("-")
    is_key = run.isdecimal() and item.isdecimal()
    return (int(run), int(item)) if is_key else (0, 0)


def sweep(folder: Path) -> None:
    """Remove raw files that runs left which were killed after their last change."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix in {".raw", ".err", ".secrets"}:
            path.unlink(missing_ok=True)


class ItemLog:
    """Writes the masked log; a log that cannot be written is told once and does no harm."""

    def __init__(self, path: Path, notify: Notify) -> None:
        self._path = path
        self._notify = notify
        self._descriptor: int | None = None
        try:
            self._descriptor = durable.create(path, flags=os.O_APPEND | os.O_TRUNC)
        except OSError as error:
            self._give_up(error)

    def write(self, text: str) -> None:
        if self._descriptor is None:
            return
        try:
            durable.write_all(self._descriptor, f"{clean(text)}\n".encode("utf-8", "replace"))
        except OSError as error:
            self.close()
            self._give_up(error)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _give_up(self, error: OSError) -> None:
        text = f"The log {self._path} cannot be written ({error.strerror}); the run goes on."
        self._notify(Notice(level="warning", text=text))
