"""A local store opened in a folder, and the holder that a test presents to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from packer_fork import host
from packer_fork.locks import Holder
from packer_fork.stores.local.store import LocalStore


def complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def open_store(folder: Path, said: Callable[[str], None] = complain) -> LocalStore:
    """The store in `folder`, which lies in the folder of all states of a test."""
    return LocalStore(
        folder, root=folder.parent, template="t.pkr.hcl", workspace="default", complain=said
    )


def holder(operation: str) -> Holder:
    return Holder(operation=operation, by=host.this_actor(), process=host.this_process())
