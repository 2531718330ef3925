"""The user's own commands: run side by side, without a shell, in bounded time and size."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from packer_fork.packer.process import in_the_child

SECONDS = 60.0
"""How long a command may run before its process group is killed."""

MAX_OUTPUT = 1 << 20
"""Bytes that a command may print to stdout."""

_KILL_SECONDS = 5.0
_MAX_ERRORS = 4096
_LONGEST_REASON = 200
_CHUNK = 1 << 16
_PAUSE = 0.01
"""Seconds between two looks at a process that has closed its stdout and still runs."""


class Completed(Struct, frozen=True):
    """``output`` is what a command printed to stdout; ``failure`` says why it failed, else ""."""

    output: bytes = b""
    failure: str = ""


def run(
    commands: Sequence[Sequence[str]],
    *,
    directory: Path,
    environ: Mapping[str, str],
    seconds: float = SECONDS,
) -> list[Completed]:
    """Run `commands` in `directory`, all at once; their results, in the same order.

    A command that takes more than `seconds`, or prints too much, is killed with its
    process group. All are killed if this call is interrupted; if this process is
    killed, the kernel ends the commands, on Linux.
    """
    deadline = time.monotonic() + seconds
    failures: dict[int, str] = {}
    running: dict[int, _Command] = {}
    try:
        for number, words in enumerate(commands):
            try:
                running[number] = _Command(_start(words, directory, environ))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                failures[number] = f"it cannot be started ({reason})"
        _wait(list(running.values()), deadline)
        late = f"it takes longer than {seconds:g} s"
        return [
            running[number].completed(late)
            if number in running
            else Completed(failure=failures[number])
            for number in range(len(commands))
        ]
    finally:
        for command in running.values():
            command.end()


def _start(
    words: Sequence[str], directory: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(words),
        cwd=directory,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=in_the_child(os.getpid(), die_with_parent=True),  # noqa: PLW1509 (see there)
    )


def _wait(commands: Sequence[_Command], deadline: float) -> None:
    """Read what `commands` print until all of them are done, but no longer than `deadline`."""
    with selectors.DefaultSelector() as selector:
        for command in commands:
            command.register(selector)
        while waiting := [command for command in commands if not command.is_done()]:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            is_closed = any(not command.awaits_output for command in waiting)
            for key, _ in selector.select(min(left, _PAUSE) if is_closed else left):
                if not key.data(os.read(key.fd, _CHUNK)):
                    selector.unregister(key.fileobj)


class _Command:
    """A command under way.

    Its process is not waited for before its stdout is closed: until then no other
    process group can have its number.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._streams = [each for each in (process.stdout, process.stderr) if each is not None]
        self._output = bytearray()
        self._errors = bytearray()
        self._failure = ""
        self.awaits_output = True

    def register(self, selector: selectors.BaseSelector) -> None:
        """What is registered takes bytes, and says whether to read on."""
        takers = (self._take_output, self._take_errors)
        for stream, take in zip(self._streams, takers, strict=True):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, take)

    def _take_output(self, data: bytes) -> bool:
        self._output += data
        if len(self._output) > MAX_OUTPUT:
            self._failure = f"it prints more than {MAX_OUTPUT >> 20} MiB"
        self.awaits_output = bool(data) and not self._failure
        return self.awaits_output

    def _take_errors(self, data: bytes) -> bool:
        self._errors += data[: _MAX_ERRORS - len(self._errors)]
        return bool(data)

    def is_done(self) -> bool:
        return bool(self._failure) or (not self.awaits_output and self._process.poll() is not None)

    def completed(self, late: str) -> Completed:
        """Its result; `late` is its failure if it is not done."""
        if self._failure or not self.is_done():
            return Completed(failure=self._failure or late)
        if code := self._process.returncode:
            ended = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            return Completed(failure=": ".join(filter(None, (ended, self._reason()))))
        return Completed(output=bytes(self._output))

    def _reason(self) -> str:
        """The first line of its standard error that is not empty."""
        with contextlib.suppress(BlockingIOError):
            self._take_errors(os.read(self._streams[1].fileno(), _CHUNK))
        lines = self._errors.decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in lines if line.strip()), "")[:_LONGEST_REASON]

    def end(self) -> None:
        """Leave neither a process that still runs, nor an open stream."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # another user's, as of sudo
                self._process.wait(_KILL_SECONDS)
        for stream in self._streams:
            stream.close()
