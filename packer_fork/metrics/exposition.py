"""Measures as text that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from math import fsum
from typing import TypeVar

from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from packer_fork.metrics.measures import Measures
from packer_fork.metrics.tables import COUNTERS, GAUGES, HISTOGRAMS, Labels, Row

PLACE = ("template", "workspace", "location")
"""Labels that every sample has: whose state it is."""

T = TypeVar("T")


def text(measured: Sequence[Measures]) -> bytes:
    """All metrics of these states, in Prometheus's text format, UTF-8."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(measured))
    return generate_latest(registry)


class _Collector(Collector):
    """What a registry asks for its metrics."""

    def __init__(self, measured: Sequence[Measures]) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        for row in GAUGES:
            gauge = GaugeMetricFamily(row.name, row.help, labels=(*PLACE, *row.labels))
            for labels, value in self._samples(row):
                gauge.add_metric(labels, value)
            yield gauge
        for row in COUNTERS:
            counter = CounterMetricFamily(row.name, row.help, labels=(*PLACE, *row.labels))
            for labels, value in self._samples(row):
                counter.add_metric(labels, value)
            yield counter
        for many in HISTOGRAMS:
            family = HistogramMetricFamily(many.name, many.help, labels=(*PLACE, *many.labels))
            for labels, values in self._samples(many):
                # A sum that is not exact could fall when a value is added to it.
                family.add_metric(labels, cumulative(values, many.bounds), fsum(values))
            yield family

    def _samples(self, row: Row[T]) -> Iterator[tuple[Labels, T]]:
        for each in self._measured:
            for labels, value in row.of(each):
                yield (each.template, each.workspace, each.location, *labels), value


def cumulative(values: Iterable[float], bounds: Iterable[float]) -> list[tuple[str, float]]:
    """For each bound, and for infinity, how many of `values` are not above it."""
    ordered = sorted(values)
    counts = [(str(float(bound)), bisect_right(ordered, bound)) for bound in bounds]
    return [*counts, ("+Inf", len(ordered))]
