"""What a shell completes: its script asks, and is answered in lines that it need not parse.

A script sends what stands before the cursor. ``shells`` and ``line`` find the words of it,
``commands`` and ``position`` what is wanted in the last one's place, ``values`` what there
is of that here and now, and ``shells`` says it as each shell takes it. Nothing is written,
no lock is taken, and what does not come soon, or goes wrong, is no answer: a TAB shows no
error.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

SECONDS = 2.0
"""For all of an answer: servers that are away, or a slow disk, do not hold up a terminal."""


class _TooLateError(BaseException):
    """Passes whoever would try again."""


def answer(request: Sequence[str]) -> None:
    """Print the answer to `request`."""
    with contextlib.suppress(Exception, _TooLateError), _in_time():
        sys.stdout.writelines(f"{each}\n" for each in _lines(request))


def _lines(request: Sequence[str]) -> Sequence[str]:
    from packer_fork.cli.completing import commands, shells, values

    asked = shells.read(request)
    wanted = commands.wanted(asked.words)
    return shells.write(asked, wanted, values.of(wanted))


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _give_up(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _TooLateError
