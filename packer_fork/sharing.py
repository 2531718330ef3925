"""Former names of `lock_steps`, for callers that still use them."""

from packer_fork.lock_steps import MOST_SOURCES, Step
from packer_fork.lock_steps import admit as opened
from packer_fork.lock_steps import admits as is_open
from packer_fork.lock_steps import claim as claimed
from packer_fork.lock_steps import complete as handed_in
from packer_fork.lock_steps import conclude as concluded
from packer_fork.lock_steps import is_complete as is_done
from packer_fork.lock_steps import return_claim as given_back
from packer_fork.lock_steps import stop_all as stopped
from packer_fork.lock_steps import want as wanting

__all__ = [
    "MOST_SOURCES",
    "Step",
    "claimed",
    "concluded",
    "given_back",
    "handed_in",
    "is_done",
    "is_open",
    "opened",
    "stopped",
    "wanting",
]
