"""Real builds that share runs on one machine, some of which are killed with or without Packer."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from packer_fork import processes
from packer_fork.codec.builds import decode_build
from packer_fork.model import REMOVED, BuildStatus, Change
from stress import aftermath
from tests.conftest import MARK, Cli, Project, Result, Running, descendants, eventually
from tests.support import states
from tests.support.local_store import open_store
from tests.support.queries import done

TEMPLATE = "t.pkr.hcl"
NAMES = tuple("abcdefghi")
BUILDS = 3

_EXECUTED = "executed"
_PATIENCE = 300
"""Seconds until a run is done, on a machine that does much else."""

_MOMENT = 1.0
"""Seconds in which packer-fork has started, and in which it builds one source."""


class Part(NamedTuple):
    """A source in the hands of one machine: when that began, and when it was complete, if ever."""

    run: int
    source: str
    number: int
    begun: int
    complete: int


class Crew:
    """Three processes that build the same, again and again."""

    def __init__(self, cli: Cli, project: Project, rng: random.Random) -> None:
        self._cli = cli
        self._root = project.root
        self._rng = rng
        self.had: Counter[str] = Counter()
        project.write(TEMPLATE, _template(project.root / _EXECUTED))
        # What a killed packer-fork left unobserved is built once more, which hides what is not.
        project.write("packer-fork.toml", 'observe = "off"\n')

    def build(self, number: int) -> list[str]:
        """Build round `number` with deaths, and go on with it; what is wrong then."""
        before = self._serial()
        running = [self._start(number) for _ in range(BUILDS)]
        doomed = self._rng.sample(running, self._rng.randint(1, BUILDS - 1))
        for each in doomed:
            self._kill(each, number)
        for each in running:
            result = self._ended(each)
            aftermath.assert_calm(result)
            assert result.rc == 0 or (each in doomed and result.rc == -signal.SIGKILL), result
        done(self._cli, *_command(number))
        made = parts(self._changes(before))
        self.had["rounds"] += 1
        self.had["runs"] += len({part.run for part in made})
        self.had["parts"] += len(made)
        return [*self._unsettled(), *unsound(made, self._executed(number))]

    def _start(self, number: int) -> Running:
        return self._cli.start(*_command(number))

    def _kill(self, victim: Running, number: int) -> None:
        """At a random moment of a run, which is told by what was executed."""
        far = self._rng.randrange(len(NAMES))
        eventually(
            lambda: self._executed(number).total() >= far or victim.process.poll() is not None,
            300,
        )
        time.sleep(self._rng.uniform(0, _MOMENT))
        with_packer = self._rng.random() < 0.5
        if victim.process.poll() is None:
            self.had["killed with its Packer" if with_packer else "killed alone"] += 1
        if with_packer:
            _end_sessions({victim.pid, *(each.session for each in descendants(victim.pid))})
        else:
            victim.signal(signal.SIGKILL)

    def _ended(self, running: Running) -> Result:
        """Raises AssertionError, with who has the lock, if it waits for ever."""
        end = time.monotonic() + _PATIENCE
        while running.process.poll() is None:
            if time.monotonic() > end:
                lives = processes.marked(MARK, self._cli.environment[MARK])
                raise AssertionError(states.lock(self._cli), lives, running.err())
            time.sleep(0.05)
        return running.wait()

    def _executed(self, number: int) -> Counter[str]:
        """How often each source's provisioner ran in that round."""
        path = self._root / _EXECUTED
        lines = path.read_text().splitlines() if path.exists() else []
        told = (line.split() for line in lines)
        return Counter(f"null.{name}" for name, round_number in told if int(round_number) == number)

    def _unsettled(self) -> Iterator[str]:
        """What is not as if nothing had been."""
        statuses = states.statuses(self._cli)
        if statuses != {f"null.{name}": "complete" for name in NAMES}:
            yield f"not everything is complete: {statuses}"
        if (verified := self._cli("state", "check", TEMPLATE)).rc != 0:
            yield verified.out + verified.err
        if (status := states.status(self._cli)) != "free":
            yield f"the lock is {status}"

    def _serial(self) -> int:
        state = open_store(states.folder(self._root)).read()
        return state.serial if state else 0

    def _changes(self, after: int) -> list[Change]:
        """The oldest first."""
        history = open_store(states.folder(self._root)).history()
        read = (change for stretch in history for change, _ in stretch.read().changes)
        return sorted((c for c in read if c.serial > after), key=lambda change: change.serial)


def _end_sessions(sessions: set[int]) -> None:
    """Kill until none is left: a process may start another one while it is being looked for."""

    def none_left() -> bool:
        found = [each.pid for each in processes.all_processes() if each.session in sessions]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    eventually(none_left)


def parts(changes: Iterable[Change]) -> list[Part]:
    """What the history tells of the parts of shared runs."""
    found: dict[tuple[int, int], Part] = {}
    for change in changes:
        for build in (decode_build(raw) for raw in change.builds.values() if raw != REMOVED):
            if not build.item:
                continue
            key = (build.run, build.item)
            part = found.setdefault(key, Part(*key[:1], build.name, build.item, change.serial, 0))
            if build.status is BuildStatus.COMPLETE and not part.complete:
                found[key] = part._replace(complete=change.serial)
    return list(found.values())


def unsound(made: Iterable[Part], executed: Counter[str]) -> Iterator[str]:
    """Sources that were built again after they were complete, or off the record."""
    of_source: dict[str, list[Part]] = {}
    for part in made:
        of_source.setdefault(part.source, []).append(part)
    for source, its in of_source.items():
        complete = [part for part in its if part.complete]
        if len(complete) != 1:
            yield f"{source} was complete {len(complete)} times: {its}"
        elif any(part.begun > complete[0].complete for part in its):
            yield f"{source} was built again after it was complete: {its}"
        if not 1 <= executed[source] <= len(its):
            yield f"{source} was executed {executed[source]} times in {len(its)} parts"
    if missing := {f"null.{name}" for name in NAMES} ^ of_source.keys():
        yield f"there are no parts of {sorted(missing)}"


def _command(number: int) -> tuple[str, ...]:
    return ("build", "--share", "-var", f"round={number}", TEMPLATE)


def _template(executed: Path) -> str:
    declared = "".join(f'source "null" "{name}" {{ communicator = "none" }}\n' for name in NAMES)
    names = ", ".join(f'"null.{name}"' for name in NAMES)
    inline = f'["echo $PACKER_BUILD_NAME ${{var.round}} >> {executed}", "sleep 0.05"]'
    return f"""\
variable "round" {{ default = "0" }}
{declared}build {{
  sources = [{names}]
  provisioner "shell-local" {{ inline = {inline} }}
}}
"""
