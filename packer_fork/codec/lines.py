"""A stored line: a document with the digest of its own bytes, and its way back."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from packer_fork.model import Change, Document, State, Summary

_DIGEST_KEY = b',"digest":"'
_END = b'"}\n'
_SEAL_SIZE = len(_DIGEST_KEY) + 64 + len(_END)

_encoder = msgspec.json.Encoder()


class _SealedState(State, frozen=True, kw_only=True):
    """A snapshot as it is stored: decoded where it lies, as it may be large."""

    digest: str


_state_decoder = msgspec.json.Decoder(_SealedState)
_change_decoder = msgspec.json.Decoder(Change)
_summary_decoder = msgspec.json.Decoder(Summary)


class Line(NamedTuple):
    """A stored line and the digest that it is known by."""

    data: bytes | memoryview
    digest: str


def seal(document: Document) -> Line:
    """`document` as a stored line."""
    body = _encoder.encode(document)[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return Line(b"".join((body, _DIGEST_KEY, digest.encode(), _END)), digest)


def unseal(data: bytes | memoryview) -> Line | None:
    """The line with its digest if its bytes are the ones that were sealed."""
    ending = bytes(data[-_SEAL_SIZE:])
    digest = hashlib.sha256(data[:-_SEAL_SIZE]).hexdigest()
    return Line(data, digest) if ending == _DIGEST_KEY + digest.encode() + _END else None


def read_snapshot(line: Line) -> State:
    """The snapshot of a good first line. Raises msgspec.ValidationError if it is none."""
    stored = _state_decoder.decode(line.data)
    return State(**{name: getattr(stored, name) for name in State.__struct_fields__})


def read_change(line: Line) -> Change:
    """The change of a good further line. Raises msgspec.ValidationError if it is none."""
    return _change_decoder.decode(_document(line))


def read_summary(line: Line) -> Summary:
    """The summary that a segment begins with. Raises msgspec.ValidationError if it is none."""
    return _summary_decoder.decode(_document(line))


def _document(line: Line) -> bytes:
    return bytes(line.data[:-_SEAL_SIZE]) + b"}"
