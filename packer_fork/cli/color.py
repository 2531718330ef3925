"""``--color=always|never|auto``, which any command takes at any place."""

from __future__ import annotations

from collections.abc import Sequence

_OPTION = "--color="


def take(argv: Sequence[str]) -> list[str]:
    """`argv` without the option, which is obeyed from now on.

    Packer's own flag, ``-color=false``, stays.
    """
    chosen = [word for word in argv if word in (f"{_OPTION}always", f"{_OPTION}never")]
    if chosen:
        from packer_fork.views.console import Color, choose_color

        choose_color(Color(chosen[-1].removeprefix(_OPTION)))
    taken = {*chosen, f"{_OPTION}auto"}
    return [word for word in argv if word not in taken]
