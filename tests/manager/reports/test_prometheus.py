"""Metrics in Prometheus's text format, and what README.md says of them: table and alerts."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from packer_fork.locks import Status
from packer_fork.manager.reports import prometheus
from packer_fork.manager.reports.collector import (
    Collected,
    LockUse,
    SourceRecord,
    Window,
    collect,
)
from packer_fork.manager.reports.metrics import Measures, Now, Standing
from packer_fork.manager.reports.prometheus import PHASES, cumulative
from packer_fork.model import BuildStatus, PendingChange
from packer_fork.statistics import BuildPoint, RunPoint
from packer_fork.stores.archive import history
from packer_fork.stores.circuit_breaker import Phase
from tests.support.docs import names, section, table
from tests.support.local_states import drafts, lock_of, open_store

START = datetime(2026, 1, 1, tzinfo=UTC)


def run(number: int, seconds: float) -> RunPoint:
    return RunPoint(run=number, started=START, status="failed", seconds=seconds, waited=0.0)


FULL = Measures(
    template="t.pkr.hcl",
    workspace="default",
    location="/states/t",
    readable=True,
    outbox=1,
    files={"state": 10, "history": 20, "backups": 0, "logs": 30},
    now=Now(status=Status.ABANDONED, queue=2, breaker="half-open", failures=5, loading=0.5),
    standing=Standing(serial=41, size=1000, segments=3, builds={BuildStatus.FAILED: 1}),
    history=Collected(
        runs=[run(1, 0.1), run(2, 0.2), run(3, 0.3)],
        sources={
            "null.n": SourceRecord(
                builds=[BuildPoint(run=1, started=START, status="failed", seconds=60.0)],
                steps={},
                saved=(1.5, 2.5),
            )
        },
        locks=[
            LockUse(waited=0.05, held=None, is_taken_over=False),
            LockUse(waited=7.0, held=90.0, is_taken_over=False),
        ],
        commits=40,
        commit_seconds=0.25,
        abandoned=1,
        force_unlocked=2,
        refused=3,
        earlier=False,
    ),
    reading=0.25,
)
"""Of every metric at least one sample."""


def families(*measured: Measures) -> list[Metric]:
    return list(text_string_to_metric_families(prometheus.text(measured).decode()))


def named(family: Metric) -> str:
    """As it is documented: the parser leaves the end of a counter's name out."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def samples(*measured: Measures) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in families(*measured):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_every_metric_is_documented_and_no_other() -> None:
    printed = {
        named(family): (family.type, own)
        for family in families(FULL)
        for own in [
            set().union(*(s.labels for s in family.samples)) - {*prometheus.STATE_LABELS, "le"}
        ]
    }
    documented = {
        name: (row[1], names(row[2]))
        for row in table("metric", section("Monitor builds with Prometheus metrics"))
        for name in names(row[0])
    }
    assert documented == printed


def test_docs_explain_each_metric_by_its_help_text() -> None:
    documented = {
        name: row[3].removeprefix("*now*: ").replace("`", "")
        for row in table("metric", section("Monitor builds with Prometheus metrics"))
        for name in names(row[0])
    }
    assert documented == {named(family): family.documentation for family in families(FULL)}


def test_what_holds_for_a_moment_only_is_marked_so() -> None:
    rows = table("metric", section("Monitor builds with Prometheus metrics"))
    marked = {name for row in rows if row[3].startswith("*now*: ") for name in names(row[0])}
    lasting = {named(each) for each in families(structs.replace(FULL, now=None)) if each.samples}
    assert marked == {named(each) for each in families(FULL)} - lasting


def alerts() -> list[str]:
    (rules,) = re.findall(
        r"```yaml\n(.*?)```", section("Monitor builds with Prometheus metrics"), re.DOTALL
    )
    return re.findall(r"expr: (?:>-)?(.*?)\n +(?:for|annotations):", rules, re.DOTALL)


SELECTOR = re.compile(r'(packer_fork_\w+)(?:\{(\w+)=~?"([^"]+)"\})?')


@pytest.mark.parametrize("expression", alerts())
def test_alerts_ask_for_what_there_is(expression: str) -> None:
    known = samples(FULL)
    asked = SELECTOR.findall(expression)
    assert asked
    for name, label, values in asked:
        told = {labels.get(label, "") for labels, _ in known[name]}
        assert {value for value in values.split("|") if value} <= told
    for group in re.findall(r"by \(([^)]+)\)", expression):
        assert set(group.split(", ")) <= set(known[asked[0][0]][0][0])


def test_there_is_an_alert_for_each_that_was_asked_for() -> None:
    assert len(alerts()) == 6
    asked = {name for expression in alerts() for name, _, _ in SELECTOR.findall(expression)}
    assert asked >= {
        "packer_fork_lock_status",
        "packer_fork_state_builds",
        "packer_fork_state_size_bytes",
        "packer_fork_outbox_length",
    }


def test_a_bound_is_within_its_bucket() -> None:
    found = cumulative([5.0, 1.0, 0.5, 7.0], (1, 5.0))
    assert found == [("1.0", 2), ("5.0", 3), ("+Inf", 4)]
    assert cumulative([], (1.0,)) == [("1.0", 0), ("+Inf", 0)]


def test_histograms_have_all_of_their_values() -> None:
    found = samples(FULL)
    counts = {labels["le"]: n for labels, n in found["packer_fork_lock_wait_seconds_bucket"]}
    assert (counts["0.1"], counts["5.0"], counts["15.0"], counts["+Inf"]) == (1, 1, 2, 2)
    assert found["packer_fork_lock_wait_seconds_sum"][0][1] == 7.05
    assert found["packer_fork_run_duration_seconds_sum"][0][1] == 0.6, "which floats miss"
    assert found["packer_fork_skips_total"][0][1] == 2
    assert found["packer_fork_skips_saved_seconds_total"][0][1] == 4


def test_one_of_several_holds() -> None:
    found = samples(FULL)
    assert {labels["status"]: n for labels, n in found["packer_fork_lock_status"]} == {
        str(each): float(each is Status.ABANDONED) for each in Status
    }
    phases = {labels["phase"]: n for labels, n in found["packer_fork_breaker_phase"]}
    assert phases == {"closed": 0, "open": 0, "half-open": 1}


def test_the_phases_of_the_breaker_are_those_that_it_has() -> None:
    assert tuple(map(str, Phase)) == PHASES


def test_what_is_not_known_is_left_out() -> None:
    bare = structs.replace(
        FULL, readable=False, now=None, standing=None, history=None, reading=None
    )
    assert samples(bare).keys() == {
        "packer_fork_state_readable",
        "packer_fork_outbox_length",
        "packer_fork_files_size_bytes",
    }
    assert "packer_fork_outbox_length" not in samples(structs.replace(bare, outbox=None))
    away = Now(status=None, queue=None, breaker="open", failures=9, loading=None)
    found = samples(structs.replace(bare, now=away))
    assert "packer_fork_lock_status" not in found
    assert "packer_fork_lock_queue_length" not in found
    assert "packer_fork_state_load_seconds" not in found
    assert found["packer_fork_breaker_failures"][0][1] == 9


def test_names_are_quoted() -> None:
    name = 'a"b\\c\nd\u00e9'
    found = samples(structs.replace(FULL, template=name))
    assert {labels["template"] for each in found.values() for labels, _ in each} == {name}


def test_several_states_stand_below_one_heading() -> None:
    other = structs.replace(FULL, workspace="other")
    text = prometheus.text([FULL, other]).decode()
    headings = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(headings) == len(set(headings)) == len(families(FULL))
    told = samples(FULL, other)["packer_fork_outbox_length"]
    assert [labels["workspace"] for labels, _ in told] == ["default", "other"]


def test_all_of_the_history_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a segment in which no run begins, which others pass by."""
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    store = open_store(tmp_path / "t.pkr.hcl" / "default")
    for made in (drafts(1), [PendingChange(operation="refused")], drafts(2), drafts(3)):
        with lock_of(store) as lock:
            for draft in made:
                lock.commit(draft)
            lock.compact()
    summaries = [stretch.summary for stretch in store.history()]
    assert [summary.runs for summary in summaries if summary] == [1, 1, 0, 1]
    found = collect(store, store.read(), Window())
    assert found.refused == 1
    assert [each.status for each in found.runs] == ["complete"] * 3


@pytest.mark.processes
def test_nothing_is_imported_before_it_is_asked_for() -> None:
    script = """
import sys
import packer_fork.cli.app
import packer_fork.manager.build.invocation
assert "prometheus_client" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
