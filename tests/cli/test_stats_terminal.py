"""Numbers of statistics, and how these are shown on a terminal."""

import random
import time
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from packer_fork.statistics import BuildPoint, spread, success
from packer_fork.views.stats.terminal import Paper, lines, sparkline
from packer_fork.views.stats.text import counts, number, percent, took
from tests.support.docs import example
from tests.support.statistics_samples import Ends, source, statistics

OK = "complete"
HOSTILE = "a\x1b[2J\x9b31m\u202e宽\nb<script>"


def points(*ends: tuple[str, float | None]) -> list[BuildPoint]:
    return [BuildPoint(run=1, started=None, status=s, seconds=took) for s, took in ends]


def test_a_spread_is_of_what_there_is() -> None:
    assert spread([]) is None
    one = spread([3.0])
    assert one is not None
    assert (one.count, one.total, one.median, one.p90, one.longest) == (1, 3, 3, 3, 3)
    ten = spread(float(n) for n in range(10, 0, -1))
    assert ten is not None
    assert (ten.count, ten.total, ten.median, ten.p90, ten.longest) == (10, 55, 5.5, 9, 10)
    eleven = spread(float(n) for n in range(11))
    assert eleven is not None
    assert eleven.p90 == 9, "ten of eleven are not above it, eight of eleven are too few"
    tenths = spread([0.1] * 10)
    assert tenths is not None
    assert tenths.total == 1, "which floats miss"


def test_what_was_cancelled_is_no_failure() -> None:
    assert success({}) is None
    assert success({"cancelled": 3, "skipped": 1}) is None
    assert success({OK: 1, "failed": 1, "interrupted": 1, "unverified": 1, "cancelled": 9}) == 0.25


def test_numbers_in_words() -> None:
    assert [percent(each) for each in (None, 0, 0.29, 1999 / 2000, 1)] == [
        *("-", "0%", "29%", "99%", "100%")
    ]
    assert (
        counts({"failed": 2, OK: 1200, "cancelled": 2}) == "1,200 complete, 2 cancelled, 2 failed"
    )
    assert counts({}) == "none"
    assert [number(n, "run") for n in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
    assert [took(n) for n in (None, 0, 0.04, 4.44, 46, 3723)] == [
        *("-", "under 1 s", "under 1 s", "4.4 s", "0:46", "1:02:03")
    ]


def test_a_sparkline_is_as_high_as_builds_took_long() -> None:
    builds = points((OK, 0), (OK, 1), (OK, 4), (OK, 7.9), (OK, 8))
    assert sparkline(builds, 9, ascii_only=False) == "▁▂▅██"
    assert sparkline(builds, 9, ascii_only=True) == "12588"
    assert sparkline(builds, 2, ascii_only=True) == "88", "the newest"
    assert sparkline(builds, 0, ascii_only=True) == sparkline([], 5, ascii_only=True) == ""


def test_a_sparkline_tells_failures_without_colour() -> None:
    ends = ("failed", "interrupted", "unverified", "cancelled", "skipped", OK)
    builds = points(*((status, 100.0) for status in ends), (OK, None))
    assert sparkline(builds, 9, ascii_only=False) == "✗✗✗··█▁"
    assert sparkline(builds, 9, ascii_only=True) == "xxx..81"
    alone = points(("failed", 100.0), (OK, 1.0))
    assert sparkline(alone, 9, ascii_only=True) == "x8", "a failure sets no scale"
    assert sparkline(points((OK, 0)), 9, ascii_only=True) == "1"


def mixed(count: int, base: float) -> Ends:
    """Some fail, some are cancelled, the last fails."""
    chance = random.Random(int(base))
    ends = [(OK, base * (0.8 + 0.4 * chance.random())) for _ in range(count)]
    ends[2::11] = [("failed", base / 3)] * len(ends[2::11])
    ends[5::17] = [("cancelled", 1.0)] * len(ends[5::17])
    return [*ends[:-1], ("failed", base / 2)]


SHOWN = statistics(
    source("amazon-ebs.web", mixed(74, 900)[:-1], saved=[900.0] * 20),
    source("qemu.base", mixed(79, 2800), saved=[2700.0]),
    source("googlecompute.api", mixed(72, 600)[:-1], saved=[610.0] * 9),
    template="images.pkr.hcl",
    ends=mixed(82, 3000),
    waits=[20.0 * n for n in range(1, 14)],
)


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_the_example_is_what_is_shown() -> None:
    assert example("stats").splitlines() == list(lines(SHOWN, Paper(80)))


WIDE = statistics(
    source("机器" * 20, mixed(99, 4000)),
    source("b", [(OK, 4.0)]),
    source("never", []),
    ends=[(OK, 1)],
)


@pytest.mark.parametrize("width", [40, 60, 79, 80, 81, 120, 300])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_rows_fit_and_stand_in_columns(width: int, ascii_only: bool) -> None:  # noqa: FBT001 (a parameter)
    _, *said = lines(WIDE, Paper(width, ascii_only))
    header, *rows = said[-4:]
    if width >= 60:
        assert all(cell_len(line) <= width for line in said)
    assert len({cell_len(row[: row.index("%")]) for row in rows[:2]}) == 1
    assert cell_len(rows[0][: row_end(rows[0])]) == cell_len(header[: row_end(header)])
    assert ("TREND" in header) == (width > 60)
    if ascii_only:
        assert all(line.replace("机", "").replace("器", "").isascii() for line in said)


def row_end(row: str) -> int:
    """Where the column of what came last ends."""
    return max(row.find("LAST") + 4, row.find("failed") + 6)


def test_what_is_wide_leaves_room_for_the_trend() -> None:
    first, *_ = list(lines(WIDE, Paper(300)))[-3:]
    assert len(first.rsplit("  ", 1)[1]) == 40


def test_nothing_hostile_reaches_the_terminal() -> None:
    found = statistics(source(HOSTILE, [(OK, 1.0)]), template=HOSTILE)
    text = "\n".join(lines(found, Paper(80)))
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)
    assert len(text.splitlines()) == 5


def test_without_a_run_there_is_a_sentence() -> None:
    assert list(lines(statistics(ends=()), Paper(80))) == ["t.pkr.hcl: no run has ended yet"]


def test_runs_that_do_not_count_are_told() -> None:
    head, *_ = lines(statistics(source("a", [(OK, 1.0)]), earlier=True), Paper(80))
    assert head.startswith("t.pkr.hcl: the last 1 run, since 2026-01-0")
