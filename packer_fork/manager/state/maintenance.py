"""Maintenance of a state: pruning old history, and what each build does at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from packer_fork.codec.segment import summarise
from packer_fork.config import Settings
from packer_fork.errors import PackerForkError
from packer_fork.events import Notice, Notify
from packer_fork.manager.build.log_files import number_of
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import PendingChange, State, Summary
from packer_fork.responses import Prunable
from packer_fork.stores.base import HeldLock, SegmentRange, Store


def after_run(ref: StateRef, lock: HeldLock, notify: Notify) -> None:
    """Back up, prune and write metrics. A failure is a warning: the build is done."""
    with _warning(notify):
        _back_up(ref, lock)
        prune_held(lock, ref)
    _write_metrics(ref, notify)


def after_skip(ref: StateRef, lock: HeldLock, notify: Notify) -> None:
    """The same without a backup: a skip adds nothing to keep."""
    with _warning(notify):
        prune_held(lock, ref)
    _write_metrics(ref, notify)


def prune(ref: StateRef, notify: Notify, *, environ: Mapping[str, str]) -> Prunable:
    """Back up, then remove what `find_prunable` finds, and segments that nothing names."""
    operation = Operation(name="prune", words=("state", "prune"), environ=environ)
    with under_lock(ref, operation, notify) as lock:
        found = prune_held(lock, ref)
        lock.discard_unused()
    return found


def prune_held(lock: HeldLock, ref: StateRef) -> Prunable:
    """The same under a lock that is held already."""
    found, state = find_prunable(ref.store, ref.settings), ref.store.read()
    if found.cut and state is not None:
        lock.backup("prune", keep=ref.settings.keep_backups)
        lock.commit(_pruned(found, state))
        lock.discard_unused()
        lock.compact()
        _remove_logs(ref.store.logs, found.kept_from)
    return found


def find_prunable(store: Store, settings: Settings) -> Prunable:
    """Whole segments in which every run is older than `keep_days` and beyond `keep_runs`.

    A setting of 0 protects nothing; if both are 0, nothing is pruned. Raises DamagedError.
    """
    if not settings.keep_runs and not settings.keep_days:
        return Prunable()
    oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
    kept, kept_from, found = 0, 0, Prunable()
    for each in store.history():
        summary = _summary(each)
        if not found.cut and (not each.segment or _is_kept(summary, kept, oldest, settings)):
            kept += summary.runs
            kept_from = summary.numbers[0] if summary.numbers else kept_from
        else:
            found = Prunable(
                cut=found.cut or each.segment,
                last=found.last or each.last,
                segments=found.segments + 1,
                runs=found.runs + summary.runs,
                kept_from=kept_from,
            )
    return found


def _is_kept(summary: Summary, kept: int, oldest: datetime, settings: Settings) -> bool:
    if settings.keep_runs and kept < settings.keep_runs:
        return True
    return bool(settings.keep_days) and (summary.latest is None or summary.latest >= oldest)


def _summary(found: SegmentRange) -> Summary:
    if found.summary is not None:
        return found.summary
    changes = [change for change, _ in found.read().changes]
    return summarise(changes, first=found.first, size=0, before=None)


def _pruned(found: Prunable, state: State) -> PendingChange:
    """Gaps left by earlier pruning are moot; ways around damage may still be needed."""
    around = {name: older for name, older in state.gaps.items() if older is not None}
    why = f"{found.runs} runs, serials up to {found.last}"
    return PendingChange(operation="prune", why=why, gaps={**around, found.cut: None})


def _remove_logs(folder: Path, kept_from: int) -> None:
    for path in folder.iterdir():
        if path.suffix == ".log" and 0 < number_of(path) < kept_from:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _warning(notify: Notify) -> Iterator[None]:
    try:
        yield
    except PackerForkError as error:
        text = f"maintenance of the state failed: {error.message}"
        notify(Notice(level="warning", text=text, hint=error.hint))


def _back_up(ref: StateRef, lock: HeldLock) -> None:
    every, state = ref.settings.backup_every, ref.store.read()
    if every and state is not None:
        last = max((backup.serial for backup in ref.store.backups()), default=0)
        if state.serial - last >= every:
            lock.backup("scheduled", keep=ref.settings.keep_backups)
            lock.discard_unused()  # segments that only the dropped backups named


def _write_metrics(ref: StateRef, notify: Notify) -> None:
    if not ref.settings.metrics_textfile:
        return
    try:
        from packer_fork.manager.reports import metrics, prometheus

        found = [metrics.gather(ref, lasting=True)]
        prometheus.write(found, Path(ref.settings.metrics_textfile))
    except PackerForkError as error:
        notify(Notice(level="warning", text=error.message, hint=error.hint))
    except Exception as error:  # noqa: BLE001 (the build is done, whatever its metrics come to)
        notify(Notice(level="warning", text=f"the metrics were not written: {error!r}"))
