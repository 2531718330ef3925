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

ROOT = Path(__file__).parents[2]


class Player:
    """One actor. `ask` commands it and waits; `tell` only commands, `answer` is had later."""

    def __init__(self, folder: Path, under: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "tests.support.actor", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = 0

    def ready(self) -> Player:
        """Once it has started; its pid is as it sees it itself."""
        self.pid = self.answer()["pid"]
        return self

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the actor has died"
        return json.loads(line)

    def ask(self, *words: str) -> Any:
        self.tell(*words)
        return self.answer()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what it did not live to read


class Stage:
    """Has actors for one lock enter, and sees them all off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._players: list[Player] = []
        self._others: list[int] = []

    def enter(self, folder: Path | None = None, under: Sequence[str] = ()) -> Player:
        return self.start(folder, under).ready()

    def start(self, folder: Path | None = None, under: Sequence[str] = ()) -> Player:
        player = Player(folder or self.folder, under)
        self._players.append(player)
        return player

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
