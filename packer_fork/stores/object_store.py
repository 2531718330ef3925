"""What a state needs of an object store: whole objects, and conditional writes of one object.

Every method sends one request and raises `StoreError`: `UnavailableError` if it was not carried
out and a later attempt may succeed, `UnsureError` if nobody knows whether it was. Nothing is
retried below: a library that repeats a conditional write turns a success whose response was
lost into a conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Object(NamedTuple):
    """``etag`` names this content of the object. Equal bytes may have equal ETags."""

    data: bytes
    etag: str


class Listed(NamedTuple):
    """``modified``: seconds, by the server's clock."""

    name: str
    modified: float


class ObjectStore(Protocol):
    """The objects below one prefix; names are relative to it. Reads and lists are consistent."""

    @property
    def location(self) -> str:
        """The URL without credentials, for messages."""

    @property
    def kind(self) -> str:
        """The product, for messages."""

    def get(self, name: str) -> Object | None: ...

    def put(self, name: str, data: bytes) -> str:
        """Write an object, whatever it holds; returns its ETag."""

    def put_new(self, name: str, data: bytes) -> str | None:
        """Create an object; None if it exists, or another write came between."""

    def put_if(self, name: str, data: bytes, etag: str) -> str | None:
        """Replace an object that has this ETag; None if it has another, or does not exist."""

    def list(self, prefix: str) -> Sequence[Listed]:
        """All objects whose names begin with `prefix`, in any order."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; one that does not exist is deleted already."""

    def close(self) -> None:
        """Close all connections; a thread that waits on one gets a StoreError."""
