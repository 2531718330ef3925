"""Kernel locks on open files: portalocker's primitives, without its classes.

``portalocker/__init__`` imports logging, tempfile, random and metadata for these classes.
"""

from __future__ import annotations

from packer_fork.lean_imports import submodules_only

with submodules_only("portalocker"):
    from portalocker import portalocker
    from portalocker.constants import LockFlags


def lock(descriptor: int) -> None:
    """Take the exclusive lock, waiting for it. Raises portalocker's LockException."""
    portalocker.lock(descriptor, LockFlags.EXCLUSIVE)


def unlock(descriptor: int) -> None:
    portalocker.unlock(descriptor)
