"""Several views at once."""

from __future__ import annotations

from packer_fork.events import Event, Notify


def several(*views: Notify) -> Notify:
    """Hands each event to every one of `views`, in their order."""

    def notify(event: Event) -> None:
        for view in views:
            view(event)

    return notify
