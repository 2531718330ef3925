"""The recoverable state: the newest that proven lines lead to, wherever these are stored.

A line with its own digest is proven, also behind damage. A snapshot starts a trail, and a
change continues the trail that ends in the change before it. The furthest trail wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct, structs

from packer_fork.changes import apply_changes, follows
from packer_fork.codec import statefile
from packer_fork.codec.compression import ZSTD_MAGIC, frames
from packer_fork.codec.lines import Line, read_change, unseal
from packer_fork.codec.witness import Witness, decode_witness
from packer_fork.errors import DamagedError
from packer_fork.malformed import MALFORMED
from packer_fork.model import Change, SegmentRef, State
from packer_fork.responses import Problem, RecoverableState
from packer_fork.stores.archive import backups, history
from packer_fork.stores.archive.files import (
    ACKED,
    ATTEMPTS,
    BACKUPS,
    MAX_ACKED,
    STATE,
    Files,
    Reader,
    segment,
)


class _Link(NamedTuple):
    line: Line
    change: Change
    source: str


class Trail(Struct, frozen=True, kw_only=True):
    """A state to start from, and the changes that were found to follow it."""

    start: State
    source: str
    links: tuple[_Link, ...] = ()

    @property
    def end(self) -> State:
        return apply_changes(self.start, [(link.change, link.line.digest) for link in self.links])

    @property
    def serial(self) -> int:
        return self.start.serial + len(self.links)

    @property
    def token(self) -> int:
        return self.links[-1].change.token if self.links else self.start.token

    @property
    def digest(self) -> str:
        return self.links[-1].line.digest if self.links else self.start.prev

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.source, *(link.source for link in self.links))))

    def led_on(self, link: _Link) -> Trail:
        return structs.replace(self, links=(*self.links, link))

    def passes(self, witness: Witness | None) -> bool:
        digests = (self.start.prev, *(link.line.digest for link in self.links))
        return witness is not None and witness.digest in digests


class _Pool:
    """Proven lines: snapshots to start from, and changes by the one that they follow."""

    def __init__(self) -> None:
        self.starts: list[Trail] = []
        self._links: dict[str, dict[str, _Link]] = defaultdict(dict)

    def add(self, data: bytes, source: str) -> None:
        for line in filter(None, map(unseal, _pieces(data))):
            try:
                change = read_change(line)
            except MALFORMED:
                self._add_start(line, source)
            else:
                self._links[change.prev][line.digest] = _Link(line, change, source)

    def _add_start(self, line: Line, source: str) -> None:
        try:
            file = statefile.decode_file(bytes(line.data), source)
        except DamagedError:
            return
        self.starts.append(Trail(start=file.snapshot, source=source))

    def add_by_hand(self, data: bytes, source: str) -> None:
        """A document without a digest, which is no line."""
        try:
            file = statefile.decode_file(data, source)
        except DamagedError:
            return
        if not file.canonical:
            self.starts.append(Trail(start=file.snapshot, source=source))

    def lineages(self) -> set[str]:
        return {start.start.lineage for start in self.starts}

    def trails(self) -> Iterator[Trail]:
        """Each start, continued as far as changes lead; every way where they fork."""
        ways = list(self.starts)
        while ways:
            way = ways.pop()
            links = self._links.get(way.digest, {}).values()
            on = [link for link in links if follows(link.change, way.serial, way.token)]
            ways += [way.led_on(link) for link in on]
            if not on:
                yield way


class Found(RecoverableState, frozen=True, kw_only=True):
    """The recoverable state with the trail that leads to it."""

    trail: Trail | None = None


def find(files: Files, reader: Reader) -> Found:
    """Raises NewerFormatError. Reads again if a writer replaced files meanwhile."""
    for _ in range(ATTEMPTS):
        before = reader.marks()
        found = _find(files)
        if not (found.lost or found.problems) or before == reader.marks():
            break
    return found


def _find(files: Files) -> Found:
    witness = _witness(files)
    acknowledged = witness.serial if witness else None
    trail = _best(files, witness)
    if trail is None:
        what = Problem(file=files.where(STATE), offset=0, what="no line is whole", affected="all")
        lost = ("everything: nothing that was stored can be proven",)
        return Found(state=None, sources=(), acknowledged=acknowledged, lost=lost, problems=(what,))
    state = trail.end
    gaps, problems = mend(files, state)
    return Found(
        state=structs.replace(state, gaps=gaps),
        sources=trail.sources,
        acknowledged=acknowledged,
        lost=(
            *_missing(trail, acknowledged, unknown=_is_torn(files)),
            *(problem.affected for problem in problems),
        ),
        problems=problems,
        trail=trail,
    )


def furthest(files: Files) -> State | None:
    """The proven state with the highest serial, acknowledged or not."""
    trail = _best(files, None)
    return trail.end if trail else None


def mend(files: Files, state: State) -> tuple[dict[str, SegmentRef | None], tuple[Problem, ...]]:
    """The gaps that lead the history of `state` around every unreadable segment."""
    gaps, problems = dict(state.gaps), []
    sealed = history.uncut(gaps, state.sealed)
    while sealed is not None:
        try:
            older = history.read(files, sealed).snapshot.sealed
        except DamagedError as error:
            older = gaps[sealed.segment] = _stand_in(files, sealed)
            first = older.serial + 1 if older else 1
            affected = f"the history of serials {first} to {sealed.serial}"
            problems.append(
                Problem(file=error.path, offset=error.offset, what=error.what, affected=affected)
            )
        sealed = history.uncut(gaps, older)
    return gaps, tuple(problems)


def _stand_in(files: Files, sealed: SegmentRef) -> SegmentRef | None:
    """The newest sound segment before an unreadable one."""
    try:
        return history.before(files, sealed)
    except DamagedError:
        pass
    older = (each.sealed for each in history.sound(files) if each.sealed.serial < sealed.serial)
    return next(older, None)


def _best(files: Files, witness: Witness | None) -> Trail | None:
    pool = _Pool()
    names = (backups.name_of(each) for each in backups.found(files))
    for name in (STATE, *(f"{BACKUPS}/{name}" for name in names)):
        pool.add(_bytes(files, name), files.where(name))
    pool.add_by_hand(_bytes(files, STATE), files.where(STATE))
    for name in history.stored(files):
        if history.prove(files, name) is None:
            pool.add(history.text(files, name), files.where(segment(name)))
    ours = pool.lineages()
    for newest in history.sound(files):
        if ours and newest.file.state.lineage not in ours:
            continue
        start = structs.replace(newest.file.state, sealed=newest.sealed)
        trail = Trail(start=start, source=files.where(segment(newest.sealed.segment)))
        pool.starts.append(trail)
        if witness is None or any(each.passes(witness) for each in pool.trails()):
            break
    return max(
        pool.trails(),
        key=lambda trail: (
            trail.passes(witness),
            trail.serial,
            trail.source == files.where(STATE),
            len(trail.links),
        ),
        default=None,
    )


def _missing(trail: Trail, acknowledged: int | None, *, unknown: bool) -> tuple[str, ...]:
    if acknowledged is None and unknown:
        return (f"what may have followed serial {trail.serial}: nothing tells what did",)
    if acknowledged is None or trail.serial >= acknowledged:
        return ()
    return (f"the changes of serials {trail.serial + 1} to {acknowledged}",)


def _witness(files: Files) -> Witness | None:
    return decode_witness(files.read(ACKED, MAX_ACKED) or b"")


def _pieces(data: bytes) -> Iterator[bytes | memoryview]:
    """Every piece that may be a line, also behind damage."""
    if not data.startswith(ZSTD_MAGIC) and b"\n" in data:
        for line, _ in statefile.text_lines(data):
            yield line
        return
    start = data.find(ZSTD_MAGIC)
    while start >= 0:
        end = start
        for line, stop in frames(memoryview(data)[start:], statefile.MAX_SIZE):
            yield line
            end = start + stop
        start = data.find(ZSTD_MAGIC, max(end, start + 1))


def _is_torn(files: Files) -> bool:
    """Whether the state file ends in a partial line, or is damaged."""
    try:
        return bool(statefile.decode_file(_bytes(files, STATE), files.where(STATE)).rest)
    except DamagedError:
        return True


def _bytes(files: Files, name: str) -> bytes:
    return files.read(name, statefile.MAX_SIZE) or b""
