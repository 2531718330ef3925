"""Runs out of the history, against a model that knows them all; and what is not read for it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from packer_fork.codec.statefile import StateFile
from packer_fork.manager.state.history import RunFilter, page, runs
from packer_fork.model import (
    Actor,
    Build,
    BuildStatus,
    Git,
    Late,
    PendingChange,
    Run,
    RunStatus,
    SegmentRef,
    WorkItem,
)
from packer_fork.responses import RunEntry
from packer_fork.stores.archive import history
from packer_fork.stores.local import mutex
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.store import LocalStore
from tests.support.hammer import ignore, open_journal

BY = Actor(user="test", host="here", pid=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("null.a", "null.b", "file.c")
BRANCHES = ("main", "feature", "")
RUN_ENDS = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)
BUILD_ENDS = tuple(status for status in BuildStatus if status.is_final)


class World:
    """A history in the making, and beside it, in memory, what it must tell of its runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.store = LocalStore(
            folder, root=folder, template="t.pkr.hcl", workspace="default", complain=pytest.fail
        )
        self.known: dict[int, RunEntry] = {}
        self._folder = folder
        self._journal = open_journal(folder)
        self._random = random.Random(seed)
        self._under_way: list[int] = []
        self._closed: list[int] = []

    def live(self, steps: int) -> None:
        ways = (self.start, self.progress, self.finish, self.fence, self.replay, self.roll_back)
        for _ in range(steps):
            self._random.choices(ways, weights=(4, 6, 4, 1, 1, 1))[0]()
            if self._random.random() < 0.4:
                self.compact()

    def expected(self) -> list[RunEntry]:
        """The newest first."""
        return [self.known[number] for number in sorted(self.known, reverse=True)]

    def start(self) -> None:
        if len(self._under_way) == 3:
            return
        number = len(self.known) + 1
        names = tuple(self._random.sample(NAMES, self._random.randint(0, 3)))
        run = Run(
            number=number,
            token=1,
            started=BEGIN + timedelta(hours=number // 2),  # isolated ones begin together
            by=BY,
            git=self._random.choice([None, *(Git(commit="0", branch=b) for b in BRANCHES)]),
            builds=names,
        )
        self.begin(run, tuple(Build(name=name, run=number) for name in names))

    def begin(self, run: Run, builds: tuple[Build, ...] = ()) -> None:
        self._under_way.append(run.number)
        self._record(RunEntry(run=run, builds=builds), "start")

    def progress(self) -> None:
        if self._under_way:
            entry = self._moved_on(self._random.choice(self._under_way), tuple(BuildStatus))
            self._record(entry, "progress")

    def finish(self) -> None:
        if self._under_way:
            self._end(self._take(self._under_way), "finish")

    def fence(self) -> None:
        """A run whose lock is closed under it; what it comes to may come later."""
        if self._under_way:
            number = self._take(self._under_way)
            self._end(number, "recover")
            self._closed.append(number)

    def replay(self) -> None:
        if not self._closed:
            return
        entry = self._ended(self._take(self._closed))
        run = entry.run
        item = WorkItem(run=run.number, number=1, token=1, started=run.started, by=BY)
        builds = {build.name: build for build in entry.builds}
        late = Late(lineage="test", run=run, item=item, builds=builds)
        self.commit(PendingChange(operation="replay", late=late))
        self.known[entry.run.number] = entry

    def roll_back(self) -> None:
        """Documents of an old run come back, which makes no run of it."""
        old = [entry for entry in self.known.values() if entry.builds]
        if old:
            builds = self._random.choice(old).builds
            self.commit(
                PendingChange(operation="rollback", builds={each.name: each for each in builds})
            )

    def commit(self, draft: PendingChange) -> None:
        with mutex.held(Layout(self._folder).mutex, ignore):
            self._journal.commit(draft, token=1, by=BY)

    def compact(self) -> None:
        with mutex.held(Layout(self._folder).mutex, ignore):
            self._journal.compact()

    def _take(self, numbers: list[int]) -> int:
        return numbers.pop(self._random.randrange(len(numbers)))

    def _end(self, number: int, operation: str) -> None:
        self._record(self._ended(number), operation)

    def _ended(self, number: int) -> RunEntry:
        entry = self._moved_on(number, BUILD_ENDS)
        run = structs.replace(entry.run, status=self._random.choice(RUN_ENDS))
        return RunEntry(run=run, builds=entry.builds)

    def _moved_on(self, number: int, statuses: tuple[BuildStatus, ...]) -> RunEntry:
        entry = self.known[number]
        builds = tuple(
            structs.replace(build, status=self._random.choice(statuses))
            if self._random.random() < 0.7
            else build
            for build in entry.builds
        )
        return RunEntry(run=entry.run, builds=builds)

    def _record(self, entry: RunEntry, operation: str) -> None:
        """Commit what changed of a run, as a recorder does."""
        before = self.known.get(entry.run.number)
        old = before.builds if before else ()
        changed = {build.name: build for build in entry.builds if build not in old}
        self.commit(PendingChange(operation=operation, last_run=entry.run, builds=changed))
        self.known[entry.run.number] = entry


def is_wanted(entry: RunEntry, wanted: RunFilter) -> bool:
    """What the README says of the options of `state runs`, put naively."""
    about = [build for build in entry.builds if wanted.build in ("", build.name)]
    if wanted.build and not about:
        return False
    statuses = [str(build.status) for build in about]
    if not wanted.build:
        statuses.append(str(entry.run.status))
    if wanted.status and wanted.status not in statuses:
        return False
    if wanted.branch and (entry.run.git is None or entry.run.git.branch != wanted.branch):
        return False
    if wanted.since and entry.run.started < wanted.since:
        return False
    return not (wanted.until and entry.run.started > wanted.until)


def questions(chance: random.Random, newest: int) -> Iterator[RunFilter]:
    """Everything, and whatever somebody may ask for."""
    yield RunFilter()
    moments = [None, *(BEGIN + timedelta(hours=n / 2) for n in range(-1, newest + 2))]
    for _ in range(30):
        yield RunFilter(
            status=chance.choice(["", "", *RunStatus, *BuildStatus]),
            build=chance.choice(["", "", *NAMES, "null.x"]),
            branch=chance.choice(["", "", *BRANCHES, "nobody's"]),
            since=chance.choice([None, None, *moments]),
            until=chance.choice([None, None, *moments]),
        )


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_those_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(history, "SEGMENT_SIZE", chance.choice([1, 2000, 6000, 1 << 20]))
    world = World(tmp_path, seed)
    world.live(steps=80)
    known = world.expected()
    assert len(known) > 10
    for wanted in questions(chance, len(known)):
        expected = [entry for entry in known if is_wanted(entry, wanted)]
        assert list(runs(world.store, wanted)) == expected, wanted
        skip = chance.randint(0, len(expected) + 1)
        assert list(runs(world.store, wanted, skip=skip)) == expected[skip:], (wanted, skip)


def test_pages_tell_whether_there_are_more(tmp_path: Path) -> None:
    world = World(tmp_path, 1)
    world.live(steps=60)
    known = world.expected()
    assert len(known) > 9
    pages = [
        page(world.store, RunFilter(), limit=4, number=n) for n in range(1, len(known) // 4 + 3)
    ]
    assert [entry for each in pages for entry in each.runs] == known
    assert [each.more for each in pages] == [each.page * 4 < len(known) for each in pages]


@pytest.fixture
def one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Thirty runs, each in a segment of its own; the twelfth is from a branch of its own."""
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    world = World(tmp_path, 0)
    for number in range(1, 31):
        git = Git(commit="0", branch="feature" if number == 12 else "main")
        started = BEGIN + timedelta(hours=number)
        world.begin(Run(number=number, token=1, started=started, by=BY, git=git))
        world.finish()
        world.compact()
    return world


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the segments that were read whole, in the order in which they were."""
    found: list[str] = []
    really = history.read

    def counted(layout: Layout, sealed: SegmentRef) -> StateFile:
        found.append(sealed.segment)
        return really(layout, sealed)

    monkeypatch.setattr(history, "read", counted)
    return found


@pytest.mark.parametrize(
    ("wanted", "skip", "numbers", "most"),
    [
        (RunFilter(branch="feature"), 0, [12], 1),
        (RunFilter(branch="nobody's"), 0, [], 0),
        (RunFilter(build="null.a"), 0, [], 0),
        (RunFilter(status="unverified", branch="nobody's"), 0, [], 0),
        (RunFilter(since=BEGIN + timedelta(hours=29)), 0, [30, 29], 2),
        (RunFilter(until=BEGIN + timedelta(hours=2)), 0, [2, 1], 2),
        (RunFilter(), 27, [3, 2, 1], 3),
        (RunFilter(), 30, [], 0),
        (RunFilter(), 99, [], 0),
        (RunFilter(branch="main"), 27, [2, 1], 29),
    ],
)
def test_what_cannot_match_is_not_read(
    one_by_one: World,
    reads: list[str],
    wanted: RunFilter,
    skip: int,
    numbers: list[int],
    most: int,
) -> None:
    found = [entry.run.number for entry in runs(one_by_one.store, wanted, skip=skip)]
    assert found == numbers
    assert len(reads) == len(set(reads)) == most


def test_only_as_much_is_read_as_is_taken(one_by_one: World, reads: list[str]) -> None:
    found = runs(one_by_one.store, RunFilter())
    assert [next(found).run.number for _ in range(3)] == [30, 29, 28]
    assert len(reads) == 3


def test_a_run_over_a_border_is_seen_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It began in a segment of its own and came to something in another one."""
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    world = World(tmp_path, 3)
    world.begin(
        Run(number=1, token=1, started=BEGIN, by=BY, builds=("null.a",)),
        (Build(name="null.a", run=1),),
    )
    world.compact()
    world.finish()
    world.compact()
    (entry,) = world.expected()
    assert entry.run.status in RUN_ENDS
    assert list(runs(world.store, RunFilter(status=str(entry.run.status)))) == [entry]
    assert list(runs(world.store, RunFilter(status="running"))) == []
    assert list(runs(world.store, RunFilter(status="pending"))) == []


def test_a_run_whose_beginning_is_pruned_is_told_as_far_as_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    world = World(tmp_path, 4)
    for number in (1, 2):
        world.begin(Run(number=number, token=1, started=BEGIN, by=BY))
    world.compact()
    (beginning,) = history.stored(Layout(tmp_path))
    world.finish()
    world.finish()
    world.compact()
    world.commit(PendingChange(operation="prune", gaps={beginning: None}))
    assert list(runs(world.store, RunFilter())) == world.expected()
    assert list(runs(world.store, RunFilter(), skip=1)) == world.expected()[1:]
