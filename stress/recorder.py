"""The history that many processes write together: one JSON event a line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from packer_fork.stores.archive.segment_ranges import segment_ranges
from packer_fork.stores.base import SegmentRange
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from stress.checker import AnyEvent, Kept

now = time.monotonic_ns


class Recorder:
    """Each event is one write in append mode, so that processes never mix their lines."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def note(self, event: AnyEvent) -> None:
        os.write(self._descriptor, msgspec.json.encode(event) + b"\n")


def events(path: Path) -> list[AnyEvent]:
    """All that was recorded. Raises msgspec.DecodeError on a line that is not whole."""
    return _decoded(path.read_bytes())


def events_so_far(path: Path) -> list[AnyEvent]:
    """The same, without a last line that is being written."""
    whole, end, _ = path.read_bytes().rpartition(b"\n")
    return _decoded(whole + end)


def _decoded(lines: bytes) -> list[AnyEvent]:
    decoder = msgspec.json.Decoder(AnyEvent)
    return decoder.decode_lines(lines)


def kept(folder: Path) -> list[Kept]:
    """All changes of the state in `folder`, the sealed ones too; the mark is a change's why."""
    layout = Layout(folder)
    reader = Reader(layout)
    return kept_in(segment_ranges(layout, reader, reader.read()))


def kept_in(history: Iterable[SegmentRange]) -> list[Kept]:
    """All changes of the history of a store."""
    read = (stretch.read() for stretch in history)
    changes = (change for passage in read for change, _ in passage.changes)
    return [Kept(change.serial, change.token, change.why) for change in changes]
