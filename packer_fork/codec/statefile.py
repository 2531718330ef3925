"""A state file: a snapshot and the changes since, as far as its bytes prove it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec
from msgspec import Struct, structs

from packer_fork.changes import apply_changes, follows
from packer_fork.codec.compression import ZSTD_MAGIC, frames
from packer_fork.codec.lines import Line, read_change, read_snapshot, unseal
from packer_fork.codec.witness import Witness
from packer_fork.errors import DamagedError, NewerFormatError
from packer_fork.malformed import MALFORMED
from packer_fork.model import FORMAT_VERSION, Change, State, Template

MAX_SIZE = 4 << 30
"""Bytes of a state that are read, or decompressed, at the most."""

_VERSION = re.compile(rb'\{"version":(\d{1,9}),')


class StateFile(Struct, frozen=True, kw_only=True):
    """A state file as far as its bytes prove it.

    ``lines`` are the good lines, snapshot first, uncompressed; ``snapshot`` is the state of
    the first, ``changes`` what the others say, ``state`` what they make of it. ``end`` is
    the offset behind the last of them and ``rest`` says what is wrong with the bytes that
    follow ("" where none do). States are of the present format, ``version`` the one of the
    file; one that is older, or was written by hand (``canonical`` is False), is replaced at
    the first commit. ``first_links`` are the digests that may be witnessed for the
    snapshot; in format 1 it was a link itself.
    """

    state: State
    snapshot: State
    lines: tuple[Line, ...]
    changes: tuple[Change, ...]
    version: int
    first_serial: int
    first_links: tuple[str, ...]
    end: int
    rest: str = ""
    compressed: bool = False
    canonical: bool = True

    @property
    def is_present(self) -> bool:
        """Whether it can be appended to as it is."""
        return self.canonical and self.version == FORMAT_VERSION

    def reaches(self, witness: Witness) -> bool:
        """Whether the change that `witness` saw acknowledged is in here.

        A snapshot stands for all changes before it.
        """
        index = witness.serial - self.first_serial
        if index < 0:
            return True
        if index == 0:
            return witness.digest in self.first_links
        return index < len(self.lines) and self.lines[index].digest == witness.digest


class _Minimal(Struct, frozen=True, forbid_unknown_fields=True):
    """The only document that is loaded without a digest: these keys and no other."""

    version: int
    serial: int
    lineage: str
    template: Template
    builds: dict[str, msgspec.Raw]


class _Versioned(Struct, frozen=True):
    version: int = 0


def decode_file(data: bytes, path: str) -> StateFile:
    """Read a state file as far as it proves itself.

    Raises DamagedError if not even its snapshot does, NewerFormatError if a newer
    packer-fork wrote it. `path` is only for the message.
    """
    compressed = data.startswith(ZSTD_MAGIC)
    pieces = frames(data, MAX_SIZE) if compressed else text_lines(data)
    first, end = next(pieces, (b"", 0))
    head = unseal(first)
    if head is None:
        return _minimal(data if not compressed else bytes(first), path)
    snapshot = _snapshot(head, path)
    links = (head.digest, snapshot.prev) if snapshot.version == 1 else (snapshot.prev,)
    lines, rest = [head], ""
    changes: list[Change] = []
    before, token = links[0], snapshot.token
    for piece, piece_end in pieces:
        line = unseal(piece)
        change = read_link(line, before) if line else None
        if line is None or change is None:
            rest = "a line that does not carry its own digest" if line is None else "a broken chain"
            break
        if not follows(change, snapshot.serial + len(changes), token):
            rest = "a change that does not follow the one before it"
            break
        lines.append(line)
        changes.append(change)
        before, token, end = line.digest, change.token, piece_end
    if not rest and end < len(data):
        rest = "a line that was not finished"
    present = structs.replace(snapshot, version=FORMAT_VERSION, prev=links[0])
    digests = (line.digest for line in lines[1:])
    return StateFile(
        state=apply_changes(present, zip(changes, digests, strict=True)),
        snapshot=present,
        lines=tuple(lines),
        changes=tuple(changes),
        version=snapshot.version,
        first_serial=snapshot.serial,
        first_links=links,
        end=end,
        rest=rest,
        compressed=compressed,
    )


def text_lines(data: bytes) -> Iterator[tuple[bytes | memoryview, int]]:
    """Each finished line with the offset behind it."""
    view, start = memoryview(data), 0
    while (stop := data.find(b"\n", start) + 1) > 0:
        yield view[start:stop], stop
        start = stop


def read_link(line: Line, before: str) -> Change | None:
    """The change of `line` if it follows the one whose digest is `before`."""
    try:
        change = read_change(line)
    except MALFORMED:
        return None
    return change if change.prev == before else None


def _snapshot(line: Line, path: str) -> State:
    told = _VERSION.match(line.data[:32])
    if told and int(told[1]) > FORMAT_VERSION:
        raise NewerFormatError(path, int(told[1]), FORMAT_VERSION)
    try:
        return read_snapshot(line)
    except MALFORMED as error:
        _refuse_newer(line.data, path)
        raise DamagedError(path, 0, f"its snapshot is not a state ({error})") from error


def _minimal(data: bytes, path: str) -> StateFile:
    if not data.strip(b"\0 \t\r\n"):
        what = "it is filled with null bytes" if b"\0" in data else "it is empty"
        raise DamagedError(path, 0, what)
    _refuse_newer(data, path)
    try:
        # written by hand, so perhaps over many lines, which a line of ours must not be
        found = msgspec.json.decode(msgspec.json.format(data, indent=-1), type=_Minimal)
    except MALFORMED as error:
        _refuse_as_damaged(path, error)
    digest = hashlib.sha256(data).hexdigest()
    state = State(
        version=FORMAT_VERSION,
        serial=found.serial,
        lineage=found.lineage,
        template=found.template,
        builds=found.builds,
        prev=digest,
    )
    return StateFile(
        state=state,
        snapshot=state,
        lines=(Line(data, digest),),
        changes=(),
        version=found.version,
        first_serial=found.serial,
        first_links=(digest,),
        end=len(data),
        canonical=False,
    )


def _refuse_as_damaged(path: str, error: Exception) -> NoReturn:
    what = "its first line does not carry its own digest and is no minimal document"
    raise DamagedError(path, 0, what) from error


def _refuse_newer(data: bytes | memoryview, path: str) -> None:
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
    except MALFORMED:
        return
    if version > FORMAT_VERSION:
        raise NewerFormatError(path, version, FORMAT_VERSION)
