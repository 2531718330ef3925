"""Settings for people and programs: what holds, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from packer_fork.views.document import indented

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Shown(Struct, frozen=True):
    """One setting; ``origin`` is ``default``, a file, an environment variable or a flag."""

    value: Any
    origin: str


def as_json(file: str | None, settings: Mapping[str, Shown]) -> str:
    """Durations are seconds; ``file`` is the packer-fork.toml that was read, or null."""
    document = {"file": file, "settings": settings}
    return indented(document)


def lines(settings: Mapping[str, Shown]) -> list[str]:
    """A row each, the value as packer-fork.toml would have it."""
    rows = [(name, toml(shown.value), shown.origin) for name, shown in settings.items()]
    rows.insert(0, ("SETTING", "VALUE", "ORIGIN"))
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{row[0]:<{name_width}}  {row[1]:<{value_width}}  {row[2]}" for row in rows]


def toml(value: Any) -> str:
    """`value` in TOML; a float is a duration in seconds."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return json.dumps(_duration(value))
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {toml(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _duration(seconds: float) -> str:
    """Exactly, as it may be set: "1h30m", "0s", "0.5s"."""
    left, said = int(seconds), ""
    if seconds != left:
        return f"{seconds:g}s"
    for size, unit in _UNITS:
        said += f"{left // size}{unit}" if left >= size else ""
        left %= size
    return said or "0s"
