"""The command line: parse, call one manager function, render. No logic.

Command modules import the rest at their first use, so that ``--version`` and
``lock status`` start fast.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Entry point of ``packer-fork``; ends the process with a documented exit code."""
    gc.set_threshold(50_000)  # imports leave no garbage: looking for it takes part of the start
    from packer_fork.cli.guard import guarded

    try:
        sys.exit(guarded(sys.argv[1:]))
    finally:
        gc.freeze()  # nor does the end of a process need to look for any
