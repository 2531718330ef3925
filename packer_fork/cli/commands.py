"""The words of every command, and the function that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from packer_fork.lean_imports import absent

COMMANDS: Mapping[str, str] = {
    "build": "build:build",
    "plan": "build:plan",
    "inputs": "inputs:inputs",
    "artifacts": "artifacts:artifacts",
    "logs": "logs:logs",
    "metrics": "metrics:metrics",
    "stats": "stats:stats",
    "force-unlock": "lock:force_unlock",
    "completion": "completion:completion",
    "version": "version:version",
    "help": "help:help_page",
    "state show": "state:show",
    "state list": "state:list_builds",
    "state recover": "state:recover",
    "state rm": "state:rm",
    "state revoke": "state:revoke",
    "state adopt": "state:adopt",
    "state runs": "history:runs",
    "state history": "history:history",
    "state diff": "history:diff",
    "state check": "backup:check",
    "state backup": "backup:backup",
    "state restore": "backup:restore",
    "state rollback": "backup:restore",
    "state prune": "history:prune",
    "state pull": "transfer:pull",
    "state push": "transfer:push",
    "state migrate": "transfer:migrate",
    "state import": "transfer:import_state",
    "lock status": "lock:status",
    "config show": "config:show",
}
"""Module and function, in the order of ``--help``. A module is imported for its command only."""

GROUPS: Mapping[str, str] = {
    "": "Packer builds that run once, resume, queue, and are never lost.",
    "state": "Inspect and change the recorded state.",
    "lock": "Show who holds the locks.",
    "config": "Show the settings and their origins.",
}

NAMES = tuple(dict.fromkeys(path.split()[0] for path in COMMANDS))

OPTIONS: Mapping[str, str] = {
    "build": "BuildOptions",
    "plan": "PlanOptions",
    "inputs": "InputsOptions",
}
"""Commands that take Packer's flags as well, and the class in ``arguments`` of their own options.

Other commands declare their options in the signatures of their functions.
"""


def function(path: str) -> Any:
    """The function of the command with these words. Raises LookupError if there is none."""
    module, _, name = COMMANDS[path].partition(":")
    return getattr(_imported(module), name)


def options(path: str) -> Any:
    """The class of the command's options. Raises LookupError if it takes no flags of Packer."""
    return getattr(_imported("arguments"), OPTIONS[path])


def _imported(module: str) -> ModuleType:
    with absent("typing_extensions"):  # msgspec uses it where it is installed
        return importlib.import_module(f"packer_fork.cli.{module}")
