"""``packer-fork version``: ours and Packer's."""

from __future__ import annotations

import os

from packer_fork import __version__
from packer_fork.cli import options


def version() -> None:
    """Show the versions of packer-fork and Packer."""
    from packer_fork.manager.passthrough import find_packer

    console = options.console()
    console.say(f"packer-fork {__version__}")
    packer = find_packer((), os.environ)
    console.say(f"Packer v{packer.version_text} ({packer.path})")
