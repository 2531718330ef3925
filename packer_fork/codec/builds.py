"""A build's document as bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from packer_fork.errors import UsageError
from packer_fork.malformed import MALFORMED
from packer_fork.model import MAX_METADATA_DEPTH, Build

_CACHED = 2048
"""Builds that are kept decoded, some 3 KB each; more than that are read once in a row anyway."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Build)


def encode_build(build: Build) -> msgspec.Raw:
    """Raises UsageError if its metadata is nested deeper than MAX_METADATA_DEPTH."""
    check_depth(build)
    return msgspec.Raw(_encoder.encode(build))


def check_build(name: str, raw: msgspec.Raw) -> None:
    """Raises UsageError if `raw`, from whoever gave it, is not to be stored as build `name`."""
    try:
        build = decode_once(raw)
    except MALFORMED as error:
        raise UsageError(f"The document of build {name!r} is none: {error}.") from error
    check_depth(build)


def check_depth(build: Build) -> None:
    """Raises UsageError if its metadata is nested deeper than MAX_METADATA_DEPTH."""
    instances = (build.instance, *build.leftovers) if build.instance else build.leftovers
    metadata = (build.metadata, *(instance.metadata for instance in instances))
    if any(_deeper_than(each, MAX_METADATA_DEPTH) for each in metadata):
        raise UsageError(
            f"The metadata of build {build.name!r} is nested deeper than "
            f"{MAX_METADATA_DEPTH} levels.",
            hint="Flatten it; nothing of it was stored.",
        )


def decode_build(raw: msgspec.Raw) -> Build:
    """Raises msgspec.ValidationError if the stored document is not a build."""
    return _decoded(bytes(raw))


def decode_once(raw: msgspec.Raw) -> Build:
    """The same, for whoever goes through all builds of a state and keeps none."""
    return _decoder.decode(raw)


@lru_cache(maxsize=_CACHED)
def _decoded(document: bytes) -> Build:
    return _decoder.decode(document)


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value] if value else []
    for _ in range(levels):
        if not layer:
            return False
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list | tuple)
        ]
    return bool(layer)
