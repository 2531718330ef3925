"""What the runs on record add up to, state by state, and the page that shows it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from packer_fork import durable
from packer_fork.errors import PackerForkError, StoreError
from packer_fork.manager import statistics_past
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.manager.statistics_past import Window
from packer_fork.statistics import Figures, Statistics


class Gathered(Struct, frozen=True):
    """The statistics of one place, and what kept them from being had."""

    statistics: Statistics
    error: PackerForkError | None


def of(places: Iterable[Place], window: Window) -> list[Gathered]:
    return [_gathered(place, window) for place in places]


def _gathered(place: Place, window: Window) -> Gathered:
    found: Figures | None = None
    error: PackerForkError | None = None
    try:
        found = statistics_past.of(place.store, window)
    except PackerForkError as why:
        error = why
    statistics = Statistics(
        template=place.folder.label,
        workspace=place.folder.workspace,
        location=place.store.location,
        at=datetime.now(UTC),
        figures=found,
        error=error.message if error else None,
    )
    return Gathered(statistics, error)


def write(page: str, path: Path) -> None:
    """Replace the file at once; like the states that it tells of, its owner alone may read it.

    Raises StoreError.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "it is no file")  # noqa: TRY301 (of the same sentence)
        durable.replace(target, page.encode(), durable=False)
    except OSError as error:
        raise StoreError(
            f"The statistics cannot be written to {path}: {error.strerror}.",
            hint="Make the folder writable, or choose another path.",
        ) from error
