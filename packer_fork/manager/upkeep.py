"""What is done for a state by itself at the end of a build: backups, pruning, metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from packer_fork.errors import PackerForkError
from packer_fork.events import Notice, Notify
from packer_fork.manager import prune
from packer_fork.manager.places import Place
from packer_fork.stores.base import Tenure


def after_run(place: Place, tenure: Tenure, notify: Notify) -> None:
    """A build is not failed by it: what cannot be done is told."""
    with _telling(notify):
        _back_up(place, tenure)
        prune.under(tenure, place)
    _write_metrics(place, notify)


def after_skip(place: Place, tenure: Tenure, notify: Notify) -> None:
    """The same but for a backup, as there is nothing new to be kept."""
    with _telling(notify):
        prune.under(tenure, place)
    _write_metrics(place, notify)


@contextlib.contextmanager
def _telling(notify: Notify) -> Iterator[None]:
    try:
        yield
    except PackerForkError as error:
        text = f"The upkeep of the state was left: {error.message}"
        notify(Notice(level="warning", text=text, hint=error.hint))


def _back_up(place: Place, tenure: Tenure) -> None:
    every, state = place.settings.backup_every, place.store.read()
    if every and state is not None:
        last = max((backup.serial for backup in place.store.backups()), default=0)
        if state.serial - last >= every:
            tenure.backup("scheduled", keep=place.settings.keep_backups)
            tenure.discard_unused()  # what older backups named that are gone by now


def _write_metrics(place: Place, notify: Notify) -> None:
    if not place.settings.metrics_textfile:
        return
    try:
        from packer_fork.manager.reports import metrics, prometheus

        found = [metrics.gather(place, lasting=True)]
        prometheus.write(found, Path(place.settings.metrics_textfile))
    except PackerForkError as error:
        notify(Notice(level="warning", text=error.message, hint=error.hint))
    except Exception as error:  # noqa: BLE001 (the build is done, whatever its figures come to)
        notify(Notice(level="warning", text=f"The metrics were not written: {error!r}."))
