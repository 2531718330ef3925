"""Actors as seen by who directs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import freeze
from tests.support.forking import ACTOR, Forked, Forking, command

ROOT = Path(__file__).parents[2]


class Player:
    """One actor. `ask` commands it and waits; `tell` only commands, `answer` is had later."""

    def __init__(self, process: Forked | subprocess.Popen[bytes], told: int, said: int) -> None:
        """`told` and `said` are descriptors of what it reads and of what it writes."""
        self.process = process
        self.pid = 0
        self._told = open(told, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._said = open(said, encoding="utf-8")  # noqa: SIM115

    def ready(self) -> Player:
        """Once it has started; its pid is as it sees it itself."""
        self.pid = self.answer()["pid"]
        return self

    def tell(self, *words: str) -> None:
        self._told.write(" ".join(words) + "\n")

    def answer(self) -> Any:
        line = self._said.readline()
        assert line, "the actor has died"
        return json.loads(line)

    def ask(self, *words: str) -> Any:
        self.tell(*words)
        return self.answer()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def freeze(self) -> None:
        freeze(self.process.pid)

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        self.process.wait()
        for pipe in (self._told, self._said):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what it did not live to read


class Stage:
    """Has actors for one lock enter, and sees them all off."""

    def __init__(self, folder: Path, forking: Forking) -> None:
        self.folder = folder
        self._forking = forking
        self._players: list[Player] = []
        self._others: list[int] = []

    def enter(self, folder: Path | None = None, under: Sequence[str] = ()) -> Player:
        return self.start(folder, under).ready()

    def start(self, folder: Path | None = None, under: Sequence[str] = ()) -> Player:
        """Without waiting for it; `under` is a command that it is run by."""
        read, told = os.pipe()
        said, write = os.pipe()
        process = self._process(str(folder or self.folder), read, write, under)
        os.close(read)
        os.close(write)
        self._players.append(Player(process, told, said))
        return self._players[-1]

    def _process(
        self, folder: str, read: int, write: int, under: Sequence[str]
    ) -> Forked | subprocess.Popen[bytes]:
        if under:
            words = [*under, sys.executable, "-m", ACTOR, folder]
            return subprocess.Popen(words, cwd=ROOT, stdin=read, stdout=write)
        acting = command(ACTOR, [folder], ROOT, os.environ)
        return self._forking.start(acting, [read, write, 2])

    def crowd(self, number: int) -> list[Player]:
        """Many at once, as each takes its time to start."""
        return [player.ready() for player in [self.start() for _ in range(number)]]

    def packer(self, player: Player) -> int:
        """Its pid; it inherits the lock that `player` has."""
        pid = int(player.ask("packer")["pid"])
        self._others.append(pid)
        return pid

    def close(self) -> None:
        for player in self._players:
            player.kill()
        for pid in self._others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
