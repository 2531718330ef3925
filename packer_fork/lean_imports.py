"""Imports of other packages without the parts that packer-fork does not use.

Such parts take longer to import than packer-fork needs to decide that a build is up to date.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import cast


@contextlib.contextmanager
def absent(name: str) -> Iterator[None]:
    """Import as if the optional module `name` were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules.update({name: cast("ModuleType", None)})  # None makes its import fail
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def submodules_only(package: str) -> Iterator[None]:
    """Import submodules of `package` without running its ``__init__``.

    A later import of the package runs its ``__init__`` as usual.
    """
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    stand_in = ModuleType(package)
    stand_in.__path__ = list(spec.submodule_search_locations)
    stand_in.__spec__ = spec
    sys.modules[package] = stand_in
    try:
        yield
    finally:
        del sys.modules[package]
