"""What Ansible reads that no attribute of a template names: by its settings and by its layout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_PLUGINS = (
    *("action_plugins", "cache_plugins", "callback_plugins", "connection_plugins"),
    *("filter_plugins", "inventory_plugins", "lookup_plugins", "test_plugins", "vars_plugins"),
)
BESIDE_INVENTORY = ("group_vars", "host_vars")
BESIDE_FOLDER = (
    *("roles", "collections", "library", "module_utils", "inventory", "inventories", "ansible.cfg"),
    *(*BESIDE_INVENTORY, *_PLUGINS),
)
"""Where the playbooks have a folder of their own, what is beside that folder."""

_PATHS = frozenset(
    (
        *("roles_path", "collections_path", "collections_paths", "inventory", "library"),
        *("module_utils", "vault_password_file", "private_key_file", *_PLUGINS),
    )
)
"""Settings of ansible.cfg, and with ANSIBLE_ before them of the environment, that hold paths."""

_LINE = re.compile(r"^\s*(\w+)\s*[=:]\s*(.*?)\s*(?:[#;].*)?$", re.MULTILINE)
_SEPARATOR = re.compile(r"[:,]")


def of_settings(config: str, directory: str) -> Iterator[str]:
    """Absolute paths that the file `config` sets; `directory` is where Ansible is started."""
    try:
        text = Path(config).read_text("utf-8", "replace")
    except OSError:
        return
    folder = os.path.dirname(config)  # noqa: PTH120
    for setting in _LINE.finditer(text):
        if setting[1] in _PATHS:
            yield from _paths(setting[2].replace("{{CWD}}", directory), folder)


def of_environment(environ: Mapping[str, str], directory: str) -> Iterator[str]:
    """Absolute paths that the environment sets."""
    for name, value in environ.items():
        if name.startswith("ANSIBLE_") and name.removeprefix("ANSIBLE_").lower() in _PATHS:
            yield from _paths(value, directory)


def _paths(value: str, folder: str) -> Iterator[str]:
    for each in filter(None, map(str.strip, _SEPARATOR.split(value))):
        yield os.path.normpath(os.path.join(folder, each))  # noqa: PTH118
