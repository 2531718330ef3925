"""Bytes <-> model: the lines of a state file, their digests, their compression.

A line is compact JSON whose last key is ``digest``: the SHA-256, in hex, of the
stored bytes before that key, so that nothing has to be decoded to check it and no
flipped bit can switch the check off. The first line is a snapshot, each further
one a change that names the digest of the line before it (``prev``). A file that
begins with the magic bytes of zstd holds one frame a line instead.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from packer_fork.errors import DamagedError, NewerFormatError, UsageError
from packer_fork.model import (
    FORMAT_VERSION,
    MAX_METADATA_DEPTH,
    Build,
    Change,
    Document,
    State,
    Template,
    apply_changes,
)

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DIGEST_KEY = b',"digest":"'
_SEAL_SIZE = len(_DIGEST_KEY) + 64 + len(b'"}\n')
_CHUNK = 1 << 16
WITNESS_SIZE = 20 + 1 + 64 + 1 + 8 + 1
"""Bytes of an encoded witness."""

_encoder = msgspec.json.Encoder()
_state_decoder = msgspec.json.Decoder(State)
_change_decoder = msgspec.json.Decoder(Change)
_build_decoder = msgspec.json.Decoder(Build)


class Line(NamedTuple):
    """A stored line and the digest that it is known by."""

    data: bytes
    digest: str


class Witness(NamedTuple):
    """The last acknowledged change: what a state file must at least reach."""

    serial: int
    digest: str


class StateFile(Struct, frozen=True, kw_only=True):
    """A state file as far as its bytes prove it.

    ``lines`` are the good lines, snapshot first, uncompressed; ``end`` is the offset
    behind the last of them and ``rest`` says what is wrong with the bytes that
    follow ("" where none do). ``canonical`` is False for a minimal document
    written by hand, which is replaced by a proper snapshot at the first commit.
    """

    state: State
    lines: tuple[Line, ...]
    first_serial: int
    first_prev: str
    end: int
    rest: str = ""
    compressed: bool = False
    canonical: bool = True

    @property
    def digest(self) -> str:
        return self.lines[-1].digest

    def reaches(self, witness: Witness) -> bool:
        """Whether the change that `witness` saw acknowledged is in here.

        A snapshot stands for the line it replaced, and for all before that.
        """
        index = witness.serial - self.first_serial
        if index < 0:
            return True
        if index == 0 and self.first_prev == witness.digest:
            return True
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


def seal(document: Document) -> Line:
    """`document` as a stored line."""
    body = _encoder.encode(document)[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return Line(body + _DIGEST_KEY + digest.encode() + b'"}\n', digest)


def _unseal(data: bytes) -> Line | None:
    """The line with its digest if its bytes are the ones that were sealed."""
    body, ending = data[:-_SEAL_SIZE], data[-_SEAL_SIZE:]
    digest = hashlib.sha256(body).hexdigest()
    return Line(data, digest) if ending == _DIGEST_KEY + digest.encode() + b'"}\n' else None


def _document(line: Line) -> bytes:
    return line.data[:-_SEAL_SIZE] + b"}"


def encode_build(build: Build) -> msgspec.Raw:
    """Raises UsageError if its metadata is nested deeper than MAX_METADATA_DEPTH."""
    metadata = (build.metadata, build.instance.metadata if build.instance else {})
    if any(_deeper_than(each, MAX_METADATA_DEPTH) for each in metadata):
        raise UsageError(
            f"The metadata of build {build.name!r} is nested deeper than "
            f"{MAX_METADATA_DEPTH} levels.",
            hint="Flatten it; nothing of it was stored.",
        )
    return msgspec.Raw(_encoder.encode(build))


def decode_build(raw: msgspec.Raw) -> Build:
    """Raises msgspec.ValidationError if the stored document is not a build."""
    return _build_decoder.decode(raw)


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list | tuple)
        ]
    return bool(layer)


def encode_witness(witness: Witness) -> bytes:
    """Of fixed size, so that one small write replaces it whole."""
    text = f"{witness.serial:020d} {witness.digest:64s}".encode()
    return text + b" %08x\n" % zlib.crc32(text)


def decode_witness(data: bytes) -> Witness | None:
    """None unless every byte is as it was written."""
    text, crc = data[: WITNESS_SIZE - 10], data[WITNESS_SIZE - 10 :]
    if len(data) != WITNESS_SIZE or crc != b" %08x\n" % zlib.crc32(text):
        return None
    serial, digest = text[:20], text[21:]
    return Witness(int(serial), digest.decode().strip())


def decode_file(data: bytes, path: str) -> StateFile:
    """Read a state file as far as it proves itself.

    Raises DamagedError if not even its snapshot does, NewerFormatError if a newer
    packer-fork wrote it. `path` is only for the message.
    """
    compressed = data.startswith(ZSTD_MAGIC)
    pieces = _frames(data) if compressed else _text_lines(data)
    first, end = next(pieces, (b"", 0))
    head = _unseal(first)
    if head is None:
        return _minimal(data if not compressed else first, path)
    state = _snapshot(head, path)
    first_serial, lines, changes, rest = state.serial, [head], [], ""
    for piece, piece_end in pieces:
        line = _unseal(piece)
        change = _change(line, lines[-1]) if line else None
        if line is None or change is None:
            rest = "a line that does not carry its own digest" if line is None else "a broken chain"
            break
        if change.serial != first_serial + len(lines) or change.tenure < state.tenure:
            rest = "a change that does not follow the one before it"
            break
        lines.append(line)
        changes.append((change, line.digest))
        end = piece_end
    if not rest and end < len(data):
        rest = "a line that was not finished"
    return StateFile(
        state=apply_changes(state, changes),
        lines=tuple(lines),
        first_serial=first_serial,
        first_prev=state.prev,
        end=end,
        rest=rest,
        compressed=compressed,
    )


def _text_lines(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each finished line with the offset behind it."""
    start = 0
    while (stop := data.find(b"\n", start) + 1) > 0:
        yield data[start:stop], stop
        start = stop


def _frames(data: bytes) -> Iterator[tuple[bytes, int]]:
    zstd = _zstd()
    end = 0
    while end < len(data):
        frame, parts, fed = zstd.ZstdDecompressor(), [], end
        while not frame.eof and fed < len(data):
            try:
                parts.append(frame.decompress(data[fed : fed + _CHUNK]))
            except zstd.ZstdError:
                return
            fed = min(fed + _CHUNK, len(data))
        if not frame.eof:
            return
        end = fed - len(frame.unused_data)
        yield b"".join(parts), end


def read_snapshot(line: Line) -> State:
    """The snapshot of a good first line. Raises msgspec.ValidationError if it is none."""
    return _state_decoder.decode(_document(line))


def read_change(line: Line) -> Change:
    """The change of a good further line. Raises msgspec.ValidationError if it is none."""
    return _change_decoder.decode(_document(line))


def _snapshot(line: Line, path: str) -> State:
    _refuse_newer(line.data, path)
    try:
        return read_snapshot(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DamagedError(path, 0, f"its snapshot is not a state ({error})") from error


def _change(line: Line, before: Line) -> Change | None:
    try:
        change = read_change(line)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return change if change.prev == before.digest else None


def _minimal(data: bytes, path: str) -> StateFile:
    if not data.strip(b"\0 \t\r\n"):
        what = "it is filled with null bytes" if b"\0" in data else "it is empty"
        raise DamagedError(path, 0, what)
    _refuse_newer(data, path)
    try:
        # written by hand, so perhaps over many lines, which a line of ours must not be
        found = msgspec.json.decode(msgspec.json.format(data, indent=-1), type=_Minimal)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        what = "its first line does not carry its own digest and is no minimal document"
        raise DamagedError(path, 0, what) from error
    state = State(
        version=FORMAT_VERSION,
        serial=found.serial,
        lineage=found.lineage,
        template=found.template,
        builds=found.builds,
    )
    digest = hashlib.sha256(data).hexdigest()
    return StateFile(
        state=state,
        lines=(Line(data, digest),),
        first_serial=found.serial,
        first_prev="",
        end=len(data),
        canonical=False,
    )


def _refuse_newer(data: bytes, path: str) -> None:
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return
    if version > FORMAT_VERSION:
        raise NewerFormatError(path, version, FORMAT_VERSION)


def compress(line: bytes) -> bytes:
    """One zstd frame, level 1, with its checksum: without it flipped bits go unnoticed."""
    zstd = _zstd()
    options = {
        zstd.CompressionParameter.compression_level: 1,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    frame: bytes = zstd.compress(line, options=options)
    return frame


def decompress(data: bytes) -> bytes:
    """Raises ValueError if `data` is not one whole frame."""
    zstd = _zstd()
    try:
        text: bytes = zstd.decompress(data)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    return text


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
