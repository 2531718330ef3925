"""JSON as it is printed: exact, on one line or indented, and harmless for a terminal."""

from __future__ import annotations

import re

import msgspec

_HARMFUL = "[\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
"""What JSON may hold as it is and a terminal may act on; it only ever stands in strings."""


def one_line(document: object) -> str:
    return _escaped(msgspec.json.encode(document))


def indented(document: object) -> str:
    return _escaped(msgspec.json.format(msgspec.json.encode(document), indent=2))


def _escaped(data: bytes) -> str:
    text = data.decode()
    if text.replace("\n", "").isprintable():
        return text
    return re.sub(_HARMFUL, lambda found: f"\\u{ord(found[0]):04x}", text)
