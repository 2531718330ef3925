"""JSON as templates and files of variables have it: numbers keep the digits that are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

_BOM = b"\xef\xbb\xbf"
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")

Pairs = list[tuple[str, Any]]


def decode(source: bytes, object_of: Callable[[Pairs], dict[str, Any]] = dict) -> Any:
    """The document, its objects made of their names and values; None if `source` is no JSON."""
    import json  # an HCL template needs none

    try:
        return json.loads(
            source.removeprefix(_BOM).decode(),
            object_pairs_hook=object_of,
            parse_int=Decimal,
            parse_float=Decimal,
        )
    except (ValueError, ArithmeticError, RecursionError):
        return None


def encode(value: object) -> str:
    """The same text for equal documents. Raises UnicodeEncodeError for half a surrogate pair."""
    return _ENCODER.encode(value).decode()


def leaves(value: object) -> Iterator[str]:
    """Every string and number in a document, however deep; no keys, no booleans."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, int | float | Decimal) and not isinstance(item, bool):
            yield str(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
