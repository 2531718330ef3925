"""The command line: parse, call one manager function, render. No logic.

Command modules import the rest at their first use, so that ``--version`` and
``lock status`` start fast.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of ``packer-fork``; ends the process with a documented exit code."""
    from packer_fork.cli.guard import guarded

    sys.exit(guarded(sys.argv[1:]))
