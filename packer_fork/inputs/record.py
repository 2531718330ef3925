"""What is kept of a build's inputs, and how two records differ in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec import Struct

EXECUTABLE = "+x"

COMMAND = "input-command"
"""Kind of the entries of ``input_commands``."""

_FILES = ("template", "var-file", "file", "directory")
_DERIVED = ("local",)
"""Kinds that follow from others: told of only where nothing else has changed."""


class Inputs(Struct, frozen=True, kw_only=True):
    """All inputs of one build at one time.

    ``entries`` maps "KIND NAME" to a digest keyed by the state's key; versions and the
    working directory stand in the clear, ``+x`` behind a digest is the exec bit.
    ``unknown`` names what cannot be known: while there is any, the build is not up to date.
    """

    entries: dict[str, str]
    unknown: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the entries; equal exactly if all of them are."""
        return _digest(sorted(self.entries.items()))


class BuildInputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What one build adds to the common entries, and which of these count for it, by position."""

    own: dict[str, str]
    counts: tuple[int, ...]
    unknown: tuple[str, ...] = ()


class TemplateInputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="inputs"):
    """The inputs of all builds of a template: a document of the state, named by `fingerprint`.

    ``common`` has, sorted by their keys, the entries that may count for several builds.
    """

    common: dict[str, str]
    builds: dict[str, BuildInputs]

    @property
    def fingerprint(self) -> str:
        builds = [(name, each.own, each.counts) for name, each in sorted(self.builds.items())]
        return _digest([sorted(self.common.items()), builds])

    def of(self, build: str) -> Inputs | None:
        """Those of one build; None if the template did not make it."""
        found = self.builds.get(build)
        if found is None:
            return None
        common = list(self.common.items())
        entries = dict(common[number] for number in found.counts if number < len(common))
        return Inputs(entries=entries | found.own, unknown=found.unknown)


def template_inputs(builds: Mapping[str, tuple[dict[str, str], Inputs]]) -> TemplateInputs:
    """By build, what is its own, and the inputs that it may have in common with others."""
    every = {key: text for _, inputs in builds.values() for key, text in inputs.entries.items()}
    common = dict(sorted(every.items()))
    positions = {key: number for number, key in enumerate(common)}
    return TemplateInputs(
        common=common,
        builds={
            name: BuildInputs(
                own=dict(sorted(own.items())),
                counts=tuple(sorted(positions[key] for key in inputs.entries)),
                unknown=inputs.unknown,
            )
            for name, (own, inputs) in builds.items()
        },
    )


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def difference_of(build: str, old: TemplateInputs, new: TemplateInputs) -> tuple[str, ...] | None:
    """`difference` for one build; None if one of the two does not have it."""
    before, after = old.of(build), new.of(build)
    return difference(before, after) if before is not None and after is not None else None


def difference(
    old: Inputs, new: Inputs, is_there: Callable[[str], bool] = lambda _: False
) -> tuple[str, ...]:
    """What changed from `old` to `new`, a short sentence each; empty if nothing did.

    `is_there`: whether a file that counts no more still exists, by its name in the entries.
    """
    reasons = list(_reasons(old.entries, new.entries, is_there))
    chief = [text for kind, text in reasons if kind not in _DERIVED]
    return tuple(chief or [text for _, text in reasons])


def _reasons(
    old: dict[str, str], new: dict[str, str], is_there: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            kind, _, name = key.partition(" ")
            if key not in new and kind in _FILES and is_there(name):
                yield kind, f"{name} counts no more"
            else:
                yield kind, _sentence(kind, name, old.get(key), new.get(key))


def _sentence(kind: str, name: str, old: str | None, new: str | None) -> str:
    if kind == "working-directory":
        return "working directory changed"
    label = _label(kind, name)
    if old is None:
        return f"{label} is new"
    if new is None:
        return f"{label} is gone"
    if kind in ("packer", "plugin") and not _is_digest(old) and not _is_digest(new):
        return f"{label} {old} -> {new}"
    if kind in _FILES and old.removesuffix(EXECUTABLE) == new.removesuffix(EXECUTABLE):
        return f"{label} is {'now' if new.endswith(EXECUTABLE) else 'no longer'} executable"
    return f"{label} changed"


def _label(kind: str, name: str) -> str:
    if kind == COMMAND:
        return f"output of `{name}`"
    return name if kind in _FILES else f"{kind} {name}".rstrip()


def _is_digest(value: str) -> bool:
    return value.startswith("sha256:")
