"""Command lines that are Packer's own: told from ours, and handed over to it."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from packer_fork.errors import UsageError, nearest

OF_PACKER = frozenset(
    {
        "console",
        "fix",
        "fmt",
        "hcl2_upgrade",
        "init",
        "inspect",
        "plugins",
        "sbom",
        "validate",
        "verify-attestation",
    }
)
"""Of all releases from 1.6 to 1.16; one that the installed Packer lacks, it says itself."""

_NAMES = sorted(OF_PACKER)

NOTE = f"""\
Packer's own commands are handed over to Packer as they are:
{" ".join(_NAMES[:6])}
{" ".join(_NAMES[6:])}"""

_MACHINE_READABLE = "-machine-readable"
_BARE = frozenset({"-v", "-version"})


def arrange(argv: Sequence[str], ours: Collection[str]) -> list[str]:
    """The command line for our own parser; does not return if it is one for Packer.

    `ours` are the names of our commands. Packer takes ``-machine-readable`` in front of a
    command as well. Raises UsageError for a command that neither knows.
    """
    machine_readable = list(argv[:1]) == [_MACHINE_READABLE]
    name, rest = _split(argv[1:] if machine_readable else argv)
    if name in OF_PACKER or name in _BARE or (name == "version" and _MACHINE_READABLE in argv):
        from packer_fork.manager.handover import hand_over

        hand_over(argv, os.environ)
    if name and not name.startswith("-") and name not in ours:
        raise _unknown(name, ours)
    return [name, _MACHINE_READABLE, *rest] if machine_readable and name else list(argv)


def _split(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    return (argv[0], argv[1:]) if argv else ("", ())


def _unknown(name: str, ours: Collection[str]) -> UsageError:
    return UsageError(
        f"There is no command {name!r}, neither of packer-fork nor of Packer.",
        hint=nearest(name, (*ours, *sorted(OF_PACKER)), "`packer-fork --help` lists all."),
    )
