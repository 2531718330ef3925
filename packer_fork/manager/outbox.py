"""Results that the store could not take: in a file each, until it is back.

A file is replaced with everything that the run came to so far, each time that a change
could not be committed, and removed when one could be.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from packer_fork import durable
from packer_fork.model import Late, Run
from packer_fork.packer.outcome import Outcome

_SUFFIX = ".late.json"


def path_of(folder: Path, run: Run) -> Path:
    return folder / f"{run.number}-{run.tenure}{_SUFFIX}"


def keep(folder: Path, lineage: str, outcome: Outcome) -> Path:
    """Durable when this returns. `outcome` must be masked. Raises OSError."""
    path = path_of(folder, outcome.run)
    late = Late(lineage=lineage, run=outcome.run, builds=dict(outcome.builds))
    durable.make_folder(folder)
    durable.replace(path, msgspec.json.encode(late))
    return path


def waiting(folder: Path) -> list[Path]:
    """The files that are there, the oldest run first."""
    try:
        found = [path for path in folder.iterdir() if path.name.endswith(_SUFFIX)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: [int(n) for n in path.name.split(".")[0].split("-")])


def done(path: Path) -> None:
    """It is in the history; a copy stays for whoever wants to see it."""
    path.rename(path.with_name(f"{path.name}.replayed"))
