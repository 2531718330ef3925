"""What is kept of a build's inputs, and how two records differ in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
from msgspec import Struct

EXECUTABLE = "+x"

_FILES = ("template", "var-file", "file", "directory")
_DERIVED = ("local",)
"""Kinds that follow from others: told of only where nothing else has changed."""


class Inputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="inputs"):
    """All inputs of a template at one time.

    ``entries`` maps "KIND NAME" to a digest keyed by the state's key; versions and the
    working directory stand in the clear, ``+x`` behind a digest is the exec bit.
    ``unknown`` names what cannot be known: while there is any, nothing is up to date.
    """

    entries: dict[str, str]
    unknown: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the entries; equal exactly if all of them are."""
        ordered = sorted(self.entries.items())
        return hashlib.sha256(msgspec.json.encode(ordered)).hexdigest()


def difference(old: Inputs, new: Inputs) -> tuple[str, ...]:
    """What changed from `old` to `new`, a short sentence each; empty if nothing did."""
    reasons = list(_reasons(old.entries, new.entries))
    chief = [text for kind, text in reasons if kind not in _DERIVED]
    return tuple(chief or [text for _, text in reasons])


def _reasons(old: dict[str, str], new: dict[str, str]) -> Iterator[tuple[str, str]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            kind, _, name = key.partition(" ")
            yield kind, _sentence(kind, name, old.get(key), new.get(key))


def _sentence(kind: str, name: str, old: str | None, new: str | None) -> str:
    if kind == "working-directory":
        return "working directory changed"
    label = name if kind in _FILES else f"{kind} {name}".rstrip()
    if old is None:
        return f"{label} is new"
    if new is None:
        return f"{label} is gone"
    if kind in ("packer", "plugin") and not _is_digest(old) and not _is_digest(new):
        return f"{label} {old} -> {new}"
    if kind in _FILES and old.removesuffix(EXECUTABLE) == new.removesuffix(EXECUTABLE):
        return f"{label} is {'now' if new.endswith(EXECUTABLE) else 'no longer'} executable"
    return f"{label} changed"


def _is_digest(value: str) -> bool:
    return value.startswith("sha256:")
