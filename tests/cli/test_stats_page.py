"""The page of statistics: well-formed, sufficient in itself, harmless, within bounds."""

import re
from collections.abc import Sequence
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from msgspec import structs

from packer_fork.model import BuildStatus, RunStatus
from packer_fork.statistics import Statistics
from packer_fork.views.stats import plots, tables
from packer_fork.views.stats.charts import MOST_RUNS, MOST_SOURCES
from packer_fork.views.stats.page import page
from tests.support.statistics_samples import START, Ends, source, statistics

OK = "complete"
HOSTILE = "<script>alert('1')</script>\"&\x1b[2J\u202e"
ENDS: Ends = [(str(each), 60.0 + n) for n, each in enumerate(BuildStatus) if each.is_final]


class Element:
    """A tag, its attributes, the text right in it, and what it stands in."""

    def __init__(self, name: str, attributes: dict[str, str], inside: list[str]) -> None:
        self.name = name
        self.attributes = attributes
        self.inside = inside
        self.text = ""


class Parsed(HTMLParser):
    """All elements of a page; every one but `meta` must be closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        assert text.startswith("<!DOCTYPE html>\n<html")
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = [each.name for each in self._open]
        element = Element(tag, {name: value or "" for name, value in attrs}, inside)
        assert len(element.attributes) == len(attrs), "an attribute stands twice"
        self.elements.append(element)
        if tag != "meta":
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def named(self, *names: str) -> list[Element]:
        return [each for each in self.elements if each.name in names]

    def of_class(self, name: str) -> list[Element]:
        return [each for each in self.elements if name in each.attributes.get("class", "").split()]

    def texts(self) -> list[str]:
        return [each.text for each in self.elements]


def parsed(*states: Statistics) -> Parsed:
    return Parsed(page(states))


FULL = statistics(
    source("null.web", ENDS, saved=[4.0]), source("never", []), ends=ENDS, waits=[12.0]
)


def test_it_needs_nothing_else() -> None:
    text = page([FULL])
    assert not re.search(r"https?:|//|url\(|@import|\bon\w+=|javascript:", text)
    found = Parsed(text)
    assert not found.named("script", "link", "img", "iframe", "object", "embed", "base", "form")
    (policy,) = (e for e in found.named("meta") if "http-equiv" in e.attributes)
    assert policy.attributes["http-equiv"] == "Content-Security-Policy"
    assert policy.attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    places = {e.attributes["id"] for e in found.elements if "id" in e.attributes}
    references = [e.attributes["href"] for e in found.elements if "href" in e.attributes]
    assert references
    assert {each.removeprefix("#") for each in references} <= places
    assert not any("src" in e.attributes or "style" in e.attributes for e in found.elements)


def test_names_are_escaped() -> None:
    hostile = source(HOSTILE, [("failed", 1.0)])
    (step,) = hostile.steps
    hostile = structs.replace(hostile, steps=(structs.replace(step, type=HOSTILE, took=None),))
    found = statistics(hostile, template=HOSTILE, ends=[("failed", 1.0)])
    assert found.figures is not None
    (latest,) = found.figures.artifacts
    latest = structs.replace(latest, artifacts=(HOSTILE,), revoked=HOSTILE)
    figures = structs.replace(found.figures, artifacts=(latest,))
    text = page([structs.replace(found, workspace=HOSTILE, figures=figures)])
    parsed = Parsed(text)
    assert not parsed.named("script")
    assert not {"\x1b", "\u202e"} & set(text)
    shown = "<script>alert('1')</script>\"&"
    heard = [each.attributes.get("aria-label", "") for each in parsed.elements]
    assert sum(shown in each for each in parsed.texts()) >= 8
    assert any(shown in each for each in heard)


def test_what_is_drawn_can_be_heard() -> None:
    found = parsed(FULL)
    drawn = [e for e in found.named("svg") if e.attributes.get("aria-hidden") != "true"]
    assert len(drawn) >= 4, "runs, waits, a source, a step"
    assert all(e.attributes["role"] == "img" and e.attributes["aria-label"] for e in drawn)
    assert all(e.attributes["scope"] in ("col", "row") for e in found.named("th"))
    rows = found.named("tr")
    assert len([e for e in found.named("th") if e.attributes["scope"] == "row"]) > 2
    assert len(rows) == len(found.named("thead")) + len(
        [e for e in found.named("th") if e.attributes["scope"] == "row"]
    )


def test_every_end_has_a_mark_of_its_own() -> None:
    ends = {str(each) for each in (*BuildStatus, *RunStatus)}
    under_way = {str(each) for each in BuildStatus if not each.is_final} | {"running"}
    assert plots.MARKS.keys() == ends - under_way
    assert len(set(plots.MARKS.values())) == len(plots.MARKS)
    found = parsed(FULL)
    keys = [e.text for e in found.named("li")]
    assert keys == list(plots.MARKS)
    titles = [e.text for e in found.named("title")]
    title = re.compile(r"run 2, failed, 2026-\d\d-\d\d [\d:]+ \w+, 1 min 5 s")
    assert sum(title.fullmatch(each) is not None for each in titles) == 2, "the run and its build"
    assert "run 1 waited 12 s" in titles
    signs = [e.attributes["class"] for e in found.named("use") if "y" in e.attributes]
    assert sorted(signs) == sorted([*(s for s, _ in ENDS), *(s for s, _ in ENDS if s != OK)])


def test_key_numbers_are_told() -> None:
    texts = parsed(FULL).texts()
    for said in ("6", "25%", "1 cancelled, 1 complete, 1 failed", "4.0 s", "by 1 skip of builds"):
        assert any(text.startswith(said) for text in texts), said
    assert "for the lock: 12 s in the median, 12 s at worst" in texts
    nobody = parsed(statistics(source("a", [(OK, 1.0)]))).texts()
    assert "Waits for the lock" not in nobody
    assert not {"Saved", "Waits", "Failures"} & set(nobody), "what never happened is not told"


def test_failures_come_first_with_cause_and_log() -> None:
    failed = structs.replace(
        source("a", [("failed", 1.0)] * 2 + [(OK, 1.0), ("failed", 2.0)]), steps=()
    )
    causes = ("provisioner 1 (shell), t.pkr.hcl:3, exit status 9", "no network", "", "no network")
    builds = tuple(
        structs.replace(build, cause=cause)
        for build, cause in zip(failed.builds, causes, strict=True)
    )
    found = statistics(structs.replace(failed, builds=builds), ends=[("failed", 1.0)] * 4)
    assert found.figures is not None
    runs = tuple(structs.replace(r, log=f"/logs/{r.run} a.log") for r in found.figures.runs)
    found = structs.replace(found, figures=structs.replace(found.figures, runs=runs))
    page_ = Parsed(page([found], "/srv"))
    assert page_.named("h3")[0].text == "Failures"
    cells = [e.text for e in page_.of_class("cause") if e.name == "td"]
    assert cells == ["no network", causes[0]], "what still fails comes first"
    times = [e.text for e in page_.of_class("number") if e.name == "td"][:2]
    assert times == ["2", "1"]
    assert [e.text for e in page_.of_class("use") if e.name == "td"][:2] == [
        *("failing", "fixed in run 3")
    ]
    links = [e.attributes["href"] for e in page_.named("a")]
    assert links[:2] == ["../logs/4%20a.log", "../logs/1%20a.log"]
    assert links.count("../logs/2%20a.log") == 2, "the bar of the run, and the mark of its build"
    assert any(e.text.endswith(", 1.0 s: no network") for e in page_.named("title"))


def test_a_long_list_of_causes_is_cut() -> None:
    sources = [source(f"s{n:03}", [("failed", 1.0)]) for n in range(30)]
    found = parsed(statistics(*sources, ends=[("failed", 1.0)]))
    assert len([e for e in found.of_class("cause") if e.name == "td"]) == tables.MOST_FAILURES
    assert f"Shown are {tables.MOST_FAILURES} of 30 causes." in found.texts()


def test_no_tick_says_what_another_one_says() -> None:
    moments = tuple(START + timedelta(seconds=n) for n in range(40))
    drawn = plots.bars([], plots.Grid(moments=moments, height=80), "nothing")
    assert len(re.findall(r"\d\d:\d\d</text>", drawn)) == 1


def within(found: Parsed) -> None:
    """Nothing is drawn beyond the edges of its plot."""
    heights = [float(e.attributes["height"]) for e in found.of_class("plot")]
    for each in found.named("rect", "use", "line", "text"):
        places = [each.attributes.get(name, "") for name in ("x", "x1", "x2")]
        across = [float(value[:-1]) for value in places if value.endswith("%")]
        width = float(each.attributes.get("width", "0%").rstrip("%"))
        assert all(0 <= x <= x + width <= 100.01 for x in across), each.attributes
        ys = [float(each.attributes[n]) for n in ("y", "y1", "y2") if n in each.attributes]
        assert all(0 <= y <= max(heights) for y in ys), each.attributes
        assert float(each.attributes.get("height", "0")) <= max(heights)


@pytest.mark.parametrize("count", [1, 2, 25, MOST_RUNS, MOST_RUNS + 50])
@pytest.mark.parametrize("seconds", [0.0, 0.004, 59.0, 4000.0, 1e7])
def test_plots_keep_within_their_edges_and_bounds(count: int, seconds: float) -> None:
    ends = [(OK, seconds * n / count) for n in range(1, count + 1)]
    found = parsed(statistics(source("a", ends), ends=ends, waits=[seconds] * count))
    within(found)
    drawn = min(count, MOST_RUNS)
    bars = [e for e in found.of_class(OK) if e.name == "rect"]
    dots = [e for e in found.of_class(OK) if e.name == "use" and "y" in e.attributes]
    assert len(bars) == len(dots) == drawn
    told = [text for text in found.texts() if "Shown are the newest" in text]
    assert len(told) == (count > MOST_RUNS)


def test_only_sources_that_took_long_are_drawn() -> None:
    sources = [source(f"s{n:03}", [(OK, float(n))]) for n in range(MOST_SOURCES + 6)]
    found = parsed(statistics(*sources))
    assert [e.text for e in found.named("h4")] == [each.name for each in sources[6:]]
    told = f"Shown are the {MOST_SOURCES} of {MOST_SOURCES + 6} sources that took longest."
    assert any(text.endswith(told) for text in found.texts())
    rows = [e.text for e in found.named("th") if e.attributes["scope"] == "row"]
    assert {each.name for each in sources} <= set(rows), "all are in the table"


def test_several_states_stand_one_after_another() -> None:
    other = structs.replace(FULL, workspace="blue")
    empty = statistics(ends=(), template="new.pkr.hcl")
    damaged = structs.replace(FULL, template="bad", figures=None, error="It is damaged.")
    found = parsed(FULL, other, empty, damaged)
    assert [e.text for e in found.named("h2")] == [
        "t.pkr.hcl",
        "t.pkr.hcl (workspace blue)",
        "new.pkr.hcl",
        "bad",
    ]
    assert len([e for e in found.named("a") if "nav" in e.inside]) == 4
    assert {"It is damaged.", "No run has ended yet."} <= set(found.texts())
    assert "packer-fork: 4 states" in found.texts()
    assert "packer-fork: t.pkr.hcl" in parsed(FULL).texts()
    assert not parsed(FULL).named("nav")
    assert "packer-fork: 0 states" in parsed().texts()


@pytest.mark.parametrize(
    ("longest", "names"),
    [
        (0, ["0.01 s"]),
        (0.3, ["0.1 s", "0.2 s", "0.3 s"]),
        (45, ["20 s", "40 s", "1 min"]),
        (61, ["30 s", "1 min", "1.5 min"]),
        (3600, ["20 min", "40 min", "1 h"]),
        (9000, ["1 h", "2 h", "3 h"]),
        (500_000, ["2 d", "4 d", "6 d"]),
    ],
)
def test_lines_are_round_and_reach_the_longest(longest: float, names: Sequence[str]) -> None:
    scale = plots.scale_for(longest)
    assert [plots.scale_name(line) for line in scale.lines] == names
    assert scale.lines[-1] == pytest.approx(scale.top)
    assert scale.top >= longest


@pytest.mark.parametrize(
    ("hours", "form"),
    [(1, r"\d\d:\d\d"), (48, r"[A-Z][a-z]{2} \d\d:\d\d"), (500, r"2026-\d\d-\d\d")],
)
def test_dates_are_as_exact_as_it_takes(hours: int, form: str) -> None:
    noon = START.astimezone().replace(hour=12)
    names = plots.dates([noon, noon + timedelta(hours=hours)])
    assert all(re.fullmatch(form, name) for name in names), names
    assert plots.dates([]) == []


def dated(count: int) -> list[str]:
    moments = tuple(START + timedelta(days=n) for n in range(count))
    grid = plots.Grid(moments=moments, height=80)
    drawn = plots.bars([], grid, "nothing")
    return re.findall(r"(\d{4}-\d\d-\d\d|(?:\w{3} )?\d\d:\d\d)</text>", drawn)


def test_dates_do_not_touch_each_other() -> None:
    assert [len(dated(count)) for count in (0, 1, 2, 12, 30)] == [0, 1, 1, 2, 3]
    assert dated(30)[-1] == (START + timedelta(days=29)).astimezone().date().isoformat()
