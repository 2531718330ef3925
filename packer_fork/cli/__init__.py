"""The command line: parse, call one manager function, render. No logic.

Command modules import the rest at their first use, so that ``--version`` and
``lock status`` start fast.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Entry point of ``packer-fork``; ends the process with a documented exit code."""
    _open_standard_streams()
    gc.set_threshold(50_000)  # imports leave no garbage: looking for it takes part of the start
    from packer_fork.cli.guard import guarded

    try:
        sys.exit(guarded(sys.argv[1:]))
    finally:
        gc.freeze()  # nor does the end of a process need to look for any


def _open_standard_streams() -> None:
    """Let a stream that the caller closed (``2>&-``) lead nowhere, as Go programs do.

    Otherwise the next file that is opened becomes standard output.
    """
    for descriptor, mode in enumerate("rww"):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            os.set_inheritable(descriptor, True)  # noqa: FBT003 (takes no keyword)
            name = ("stdin", "stdout", "stderr")[descriptor]
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
