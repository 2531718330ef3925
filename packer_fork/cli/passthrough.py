"""Packer's own commands: recognized here, and passed through to Packer unchanged."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from packer_fork.errors import UsageError, nearest

PACKER_COMMANDS = frozenset(
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
"""Of all releases from 1.6 to 1.16. If the installed Packer lacks a command, Packer reports it."""

_NAMES = sorted(PACKER_COMMANDS)

NOTE = f"""\
Packer's own commands are passed through to Packer:
{" ".join(_NAMES[:6])}
{" ".join(_NAMES[6:])}"""

MACHINE_READABLE = "-machine-readable"
_BARE = frozenset({"-v", "-version"})


def arrange(argv: Sequence[str], ours: Collection[str]) -> list[str]:
    """The command line for our own parser; does not return if it is one for Packer.

    `ours` are the names of our commands. Packer takes ``-machine-readable`` in front of a
    command as well. Raises UsageError for a command that neither knows.
    """
    machine_readable = list(argv[:1]) == [MACHINE_READABLE]
    name, rest = _split(argv[1:] if machine_readable else argv)
    if name in PACKER_COMMANDS or name in _BARE or (name == "version" and MACHINE_READABLE in argv):
        from packer_fork.manager.passthrough import exec_packer

        exec_packer(argv, os.environ)
    if name and not name.startswith("-") and name not in ours:
        raise _unknown(name, ours)
    return [name, MACHINE_READABLE, *rest] if machine_readable and name else list(argv)


def _split(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    return (argv[0], argv[1:]) if argv else ("", ())


def _unknown(name: str, ours: Collection[str]) -> UsageError:
    return UsageError(
        f"There is no command {name!r}, neither of packer-fork nor of Packer.",
        hint=nearest(name, (*ours, *_NAMES), "`packer-fork --help` lists all."),
    )
