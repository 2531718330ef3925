"""packer-fork: Packer builds that run once, resume, queue, and are never lost.

From Python: ``from packer_fork import build, plan, builds, artifacts, lock_status``
(see ``packer_fork.api``, which is loaded at the first use of one of them).
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing `typing` before the command line sets up takes longer
if TYPE_CHECKING:
    from packer_fork.api import artifacts, build, builds, lock_status, plan

__all__ = ["__version__", "artifacts", "build", "builds", "lock_status", "plan"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        found: object = getattr(importlib.import_module("packer_fork.api"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
