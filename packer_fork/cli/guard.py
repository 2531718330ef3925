"""The one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from packer_fork.errors import EXIT_INTERNAL, EXIT_STORE, CancelledError, PackerForkError
from packer_fork.views.console import lost_output


def guarded(argv: Sequence[str]) -> int:
    """Run the command line; whatever happens, no traceback and the right exit code.

    Typer ends its commands, and its own errors, by SystemExit, which passes through.
    """
    from packer_fork.cli.app import run

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _cancel)
    try:
        run(argv)
    except PackerForkError as error:
        _ignore_signals()
        _say(error.message, error.hint)
        if "--json" in argv and {"build", "plan"} & set(argv):
            _say_as_event(error)
        return error.exit_code
    except SystemExit as ended:
        if not ended.code and (why := lost_output()):
            raise SystemExit(_output_lost(why)) from ended
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception:  # noqa: BLE001 (the last resort: told in one line, kept in a file)
        _ignore_signals()
        return _our_own_fault()
    return 0


def _ignore_signals() -> None:
    """What is being told is the end already."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _cancel(number: int, _: FrameType | None) -> None:
    raise CancelledError(number)


def _say(message: str, hint: str) -> None:
    """In the job's own console: a message that repeats Packer's may hold anyone's text."""
    from packer_fork.views import ci

    console = ci.console(os.environ)
    console.problem(message, hint)


def _say_as_event(error: PackerForkError) -> None:
    """Who reads events learns of it there, too."""
    from packer_fork.events import Failed
    from packer_fork.views import ci, document

    failed = Failed(text=error.message, hint=error.hint, exit_code=error.exit_code)
    ci.console(os.environ, color=False).say(document.one_line(failed))


def _output_lost(why: str) -> int:
    _say(
        f"Standard output could not be written ({why}): what it holds is incomplete.",
        "All else was done: `packer-fork state show` tells what is on record.",
    )
    return EXIT_STORE


def _our_own_fault() -> int:
    import tempfile
    import traceback

    text = traceback.format_exc()
    try:
        descriptor, path = tempfile.mkstemp(prefix="packer-fork-", suffix=".traceback")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError:
        path = ""
        sys.stderr.write(text)
    last = text.strip().splitlines()[-1]
    _say(
        f"This is a fault of packer-fork: {last}",
        f"Please report it with {path}" if path else "Please report it with the text above.",
    )
    return EXIT_INTERNAL
