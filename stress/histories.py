"""Made-up histories of any number of runs, written at once and without any fsync.

Each run builds three images in two changes, ``start`` and ``finish``. The tenth of ten
thousand runs fails, so that there is one in each history, and they are rare.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Raw, json, structs

from packer_fork.changes import apply_changes
from packer_fork.codec.lines import Line, seal
from packer_fork.codec.segment import encode_segment
from packer_fork.codec.witness import Witness, encode_witness
from packer_fork.model import Build, BuildStatus, Change, Run, RunStatus, SegmentRef, State
from packer_fork.stores.archive import history
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from stress import states

_FAILS, _RARE = 10, 10_000
_PENDING = tuple(
    Build(name=whole.name, type=whole.type, inputs=whole.inputs)
    for whole in map(states.build, range(3))
)
_COMPLETE = tuple(map(states.build, range(3)))
_NAMES = tuple(build.name for build in _COMPLETE)

_encoder = json.Encoder()


class _Piece:
    """Changes that follow a state, as many as fill a segment."""

    def __init__(self, state: State) -> None:
        self.lines: list[Line] = []
        self.changes: list[Change] = []
        self.size = 0
        self._serial, self._prev = state.serial, state.prev

    def add(self, run: Run, builds: Iterable[Build]) -> None:
        self._serial += 1
        started = run.status is RunStatus.RUNNING
        change = Change(
            serial=self._serial,
            id=f"{self._serial:032x}",
            at=run.started if run.ended is None else run.ended,
            token=1,
            by=states.ACTOR,
            operation="start" if started else "finish",
            prev=self._prev,
            run=run.number,
            builds={build.name: Raw(_encoder.encode(build)) for build in builds},
            last_run=run,
        )
        line = seal(change)
        self.lines.append(line)
        self.changes.append(change)
        self.size += len(line.data)
        self._prev = line.digest

    def after(self, state: State) -> State:
        digests = (line.digest for line in self.lines)
        return apply_changes(state, zip(self.changes, digests, strict=True))


def write(layout: Layout, runs: int) -> None:
    """A state after so many runs, compacted, with its history in segments of full size."""
    layout.history.mkdir(parents=True)
    state, numbers = states.empty(), iter(range(1, runs + 1))
    while (piece := _piece(state, numbers)).changes:
        sealed = _seal_away(layout, state, piece)
        state = structs.replace(piece.after(state), sealed=sealed)
    layout.state.write_bytes(seal(state).data)
    layout.acked.write_bytes(encode_witness(Witness(state.serial, state.prev)))


def _piece(state: State, numbers: Iterator[int]) -> _Piece:
    piece = _Piece(state)
    while piece.size < history.SEGMENT_SIZE and (number := next(numbers, None)) is not None:
        run = structs.replace(states.run(number), builds=_NAMES)
        piece.add(run, (structs.replace(each, run=number) for each in _PENDING))
        piece.add(*_finished(run))
    return piece


def _finished(run: Run) -> tuple[Run, Iterator[Build]]:
    fails = run.number % _RARE == _FAILS
    begun, ended = run.started, run.started + timedelta(minutes=7)
    status = RunStatus.FAILED if fails else RunStatus.COMPLETE
    finished = structs.replace(run, status=status, ended=ended, exit_code=int(fails))
    return finished, (_built(each, run.number, begun, ended, fails=fails) for each in _COMPLETE)


def _built(build: Build, run: int, begun: datetime, ended: datetime, *, fails: bool) -> Build:
    status = BuildStatus.FAILED if fails else BuildStatus.COMPLETE
    return structs.replace(build, run=run, status=status, started=begun, ended=ended)


def failed(runs: int) -> int:
    """How many of the runs fail."""
    return len(range(_FAILS, runs + 1, _RARE))


def _seal_away(layout: Layout, before: State, piece: _Piece) -> SegmentRef:
    lines = (seal(before), *piece.lines)
    made = encode_segment(lines, piece.changes, before.serial, before.sealed)
    layout.segment(made.sealed.segment).write_bytes(made.data)
    return made.sealed


def problems(layout: Layout, runs: int) -> Iterator[str]:
    """What does not read back: the state, every summary, and of the segments a sample."""
    file = Reader(layout).read()
    if file is None or file.rest or file.state.serial != 2 * runs:
        yield f"the state after {runs} runs does not read back"
        return
    chain = list(history.chain(layout, file.state))
    summaries = [history.read_summary(layout, sealed) for sealed in chain]
    if sum(summary.runs for summary in summaries if summary) != runs:
        yield f"the summaries do not tell of {runs} runs"
    for sealed in {chain[0], chain[len(chain) // 2], chain[-1]}:
        segment = history.read(layout, sealed)
        if segment.rest or segment.state.serial != sealed.serial:
            yield f"segment {sealed.segment} does not read back"
