"""Letting go of old history, by count and by age of its runs; the state itself stays whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from packer_fork.answers import Prunable
from packer_fork.codec.segment import summarise
from packer_fork.config import Settings
from packer_fork.events import Notify
from packer_fork.manager.build.log_files import number_of
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.model import Draft, State, Summary
from packer_fork.stores.base import Store, Stretch, Tenure


def look(store: Store, settings: Settings) -> Prunable:
    """Whole segments in which every run is older than `keep_days` and beyond `keep_runs`.

    What is not set protects nothing; if neither is, nothing goes. Raises DamagedError.
    """
    if not settings.keep_runs and not settings.keep_days:
        return Prunable()
    oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
    kept, kept_from, found = 0, 0, Prunable()
    for stretch in store.history():
        summary = _summary(stretch)
        if not found.cut and (not stretch.segment or _is_kept(summary, kept, oldest, settings)):
            kept += summary.runs
            kept_from = summary.numbers[0] if summary.numbers else kept_from
        else:
            found = Prunable(
                cut=found.cut or stretch.segment,
                last=found.last or stretch.last,
                segments=found.segments + 1,
                runs=found.runs + summary.runs,
                kept_from=kept_from,
            )
    return found


def _is_kept(summary: Summary, kept: int, oldest: datetime, settings: Settings) -> bool:
    if settings.keep_runs and kept < settings.keep_runs:
        return True
    return bool(settings.keep_days) and (summary.latest is None or summary.latest >= oldest)


def _summary(stretch: Stretch) -> Summary:
    if stretch.summary is not None:
        return stretch.summary
    changes = [change for change, _ in stretch.read().changes]
    return summarise(changes, first=stretch.first, size=0, before=None)


def prune(place: Place, notify: Notify, *, environ: Mapping[str, str]) -> Prunable:
    """Back up, and let go of what `look` finds, and of segments that nothing names."""
    command = Command(operation="prune", words=("state", "prune"), environ=environ)
    with changing(place, command, notify) as tenure:
        found = under(tenure, place)
        tenure.discard_unused()
    return found


def under(tenure: Tenure, place: Place) -> Prunable:
    """The same under a lock that is held already."""
    found, state = look(place.store, place.settings), place.store.read()
    if found.cut and state is not None:
        tenure.backup("prune", keep=place.settings.keep_backups)
        tenure.commit(_draft(found, state))
        tenure.discard_unused()
        tenure.compact()
        _remove_logs(place.store.logs, found.kept_from)
    return found


def _draft(found: Prunable, state: State) -> Draft:
    """Where the history ended before is moot; ways around damage may still be needed."""
    around = {name: older for name, older in state.cuts.items() if older is not None}
    why = f"{found.runs} runs, serials up to {found.last}"
    return Draft(operation="prune", why=why, cuts={**around, found.cut: None})


def _remove_logs(folder: Path, kept_from: int) -> None:
    for path in folder.iterdir():
        if path.suffix == ".log" and 0 < number_of(path) < kept_from:
            path.unlink(missing_ok=True)
