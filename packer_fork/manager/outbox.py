"""Results that the store could not take: in a file each, until it is back.

A file is replaced with everything that the run came to so far, each time that a change
could not be committed, and removed when one could be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Raw

from packer_fork import durable
from packer_fork.events import Kept, Notice, Notify
from packer_fork.model import Late, Run
from packer_fork.packer.outcome import Outcome

SUFFIX = ".late.json"
_NAME = re.compile(r"\d+-\d+(-\d+)?\.late\.json")


class Outbox:
    """A folder for the results of a state's runs. A disk that fails is told, and does no harm."""

    def __init__(self, folder: Path, lineage: str, notify: Notify) -> None:
        self._folder = folder
        self._lineage = lineage
        self._notify = notify

    def keep(self, outcome: Outcome, inputs: Mapping[str, Raw]) -> bool:
        """Whether it is there, durably. `outcome` must be masked; `inputs`: see `Late`."""
        late = Late(
            lineage=self._lineage,
            run=outcome.run,
            builds=dict(outcome.builds),
            inputs=dict(inputs),
        )
        try:
            durable.make_folder(self._folder)
            durable.replace(self._path(outcome.run), msgspec.json.encode(late))
        except OSError as error:
            text = f"The results cannot be kept in {self._folder} ({error.strerror})."
            self._notify(Notice(level="error", text=text, hint="The log of the run has them."))
            return False
        return True

    def forget(self, run: Run) -> None:
        """The store has taken them."""
        self._path(run).unlink(missing_ok=True)

    def tell(self, outcome: Outcome, inputs: Mapping[str, Raw], why: str) -> None:
        """Tell what was kept, and where, if it could be."""
        path = self._path(outcome.run)
        self._notify(
            Kept(
                path=str(path) if path.exists() else "",
                why=why,
                lineage=self._lineage,
                run=outcome.run,
                builds=outcome.builds,
                inputs=dict(inputs),
            )
        )

    def _path(self, run: Run) -> Path:
        part = f"-{run.part}" if run.part else ""
        return self._folder / f"{run.number}-{run.tenure}{part}{SUFFIX}"


def waiting(folder: Path) -> list[Path]:
    """The files that are there, the oldest run first."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def done(path: Path) -> None:
    """It is in the history; a copy stays for whoever wants to see it."""
    path.rename(path.with_name(f"{path.name}.replayed"))
