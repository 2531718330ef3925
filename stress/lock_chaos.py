"""Many processes contend for one lock while some are killed and some lose it to an operator.

    python -m stress.lock_chaos [--seconds N] [--seed S] FOLDER

Some hold it with a Packer (a process that inherits its lock) which outlives them. The
checker judges what they recorded; the exit code is 1 if it finds anything.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from packer_fork.errors import LockLostError
from packer_fork.locks import LockStatus, Status
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.layout import Layout
from stress import recorder
from stress.checker import Acquired, Closed, Killed, Released, violations
from stress.contender import Contender
from stress.recorder import Recorder, now
from tests.support.forks import fork
from tests.support.local_store import holder, open_store

WORKERS = 8
_WHATEVER = frozenset(Status) - {Status.FREE}


class Chaos:
    """Workers that are replaced as they are killed, for as long as it is asked for."""

    def __init__(self, folder: Path, states: Path | None = None) -> None:
        self.folder = (states or folder) / "t.pkr.hcl" / "default"
        self.history = folder / "events"
        self._record = Recorder(self.history)
        self._workers: dict[int, str] = {}
        self._store = open_store(self.folder)
        self._layout = Layout(self.folder)
        self.kills = self.unlocks = self._started = 0

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                while len(self._workers) < WORKERS:
                    self._start()
                time.sleep(random.uniform(0, 0.06))
                self._unlock() if random.random() < 0.1 else self._kill()
        finally:
            for pid in list(self._workers):
                self._end(pid)

    def _start(self) -> None:
        name, seed = self._name(), random.random()
        self._workers[fork(partial(_work, self.folder, self._record, name, seed))] = name

    def _name(self) -> str:
        self._started += 1
        return f"w{self._started}"

    def _kill(self) -> None:
        self._end(random.choice(list(self._workers)))
        self.kills += 1

    def _end(self, pid: int) -> None:
        """Kill a worker, then the Packer that it may have left.

        Its lock ended at the earliest at the last moment at which its lock is seen held:
        the worker may have killed its Packer itself, a moment before it was killed.
        """
        name, at = self._workers.pop(pid), now()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        packer = _only_member(pid)
        if packer is not None:
            at = self._seen_held(pid, at)
            time.sleep(random.uniform(0, 0.01))
            at = self._seen_held(pid, at)
            with contextlib.suppress(ProcessLookupError):
                os.kill(packer, signal.SIGKILL)
        self._record.note(Killed(process=name, at=at))

    def _seen_held(self, worker: int, before: int) -> int:
        """The time of this look if the worker's Packer holds its lock, else `before`."""
        record, at = lock_status.read_record(self._layout).record, now()
        if record is None or record.released or record.first.holder.process.pid != worker:
            return before
        return at if lock_status.is_busy(self._layout.packer_lock(record.token, 1)) else before

    def _unlock(self) -> None:
        """As an operator who passes over whoever lives; often somebody is faster."""
        for _ in range(20):
            found, asked = lock_status.judge(self._layout), now()
            if found.status not in _WHATEVER or found.record is None:
                continue
            lock = self._store.try_acquire(holder("unlock"), over=_WHATEVER, lock_id=found.id)
            if not isinstance(lock, LockStatus):
                self._note_unlock(found.record.token, lock, asked)
                lock.close()
                self.unlocks += 1
                return

    def _note_unlock(self, closed: int, lock: HeldLock, asked: int) -> None:
        got, new = now(), lock.record
        for event in (
            Closed(token=closed, asked=asked, at=got),
            Acquired(token=new.token, lock=new.id, process="operator", asked=asked, got=got),
            Released(token=new.token, at=now()),
        ):
            self._record.note(event)


def _only_member(group: int) -> int | None:
    """The Packer that a killed worker left: nobody but us ends it now."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
        return next((pid for pid in found if _group(pid) == group), None)
    return None


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _work(folder: Path, record: Recorder, name: str, seed: float) -> None:
    random.seed(seed)
    me = Contender(open_store(folder), record, name=name)
    while True:
        lock = me.enter(queue=random.random() < 0.8)
        if lock is None:
            continue
        with _packer(lock) if random.random() < 0.1 else contextlib.nullcontext():
            for _ in range(random.randrange(3)):
                if not me.change(lock):
                    break
        if random.random() < 0.3:
            with contextlib.suppress(LockLostError):
                lock.compact()
        me.leave(lock)


@contextlib.contextmanager
def _packer(lock: HeldLock) -> Iterator[None]:
    packer = subprocess.Popen(["sleep", "60"], pass_fds=[lock.packer_lock])
    yield
    packer.kill()
    packer.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="stress.lock_chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    random.seed(asked.seed)
    importlib.import_module(
        "packer_fork.stores.local.kernel_locks"
    )  # once, not by each worker anew
    print(f"seed {asked.seed}")
    chaos = Chaos(asked.folder)
    chaos.run(asked.seconds)
    events = recorder.events(chaos.history)
    found = violations(events, recorder.kept(chaos.folder), in_order=True)
    held = sum(isinstance(event, Acquired) for event in events)
    print(f"{held} locks, {chaos.kills} kills, {chaos.unlocks} unlocked alive")
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
