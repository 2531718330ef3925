"""A plot of lines over two logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 760, 440
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 40, 220, 60
_COLORS = ("#0b62a4", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#117a65", "#566573", "#d81b60")


class _Axis:
    """Where a value lies between the powers of ten around all values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[tuple[float, str]]:
        powers = [10.0**power for power in range(self.low, self.high + 1)]
        return [(self.at(power), f"{power:,.10g}") for power in powers]


def svg(title: str, x_title: str, y_title: str, lines: Mapping[str, Points]) -> str:
    """All values must be above 0."""
    points = [point for line in lines.values() for point in line]
    across = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    head = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text((_LEFT + _WIDTH - _RIGHT) / 2, 22, title, "middle"),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 16, x_title, "middle"),
        f'<g transform="rotate(-90)">{_text(-_HEIGHT / 2, 16, y_title, "middle")}</g>',
        *_grid(across, up),
    ]
    for number, (name, line) in enumerate(lines.items()):
        places = [(across.at(x), up.at(y)) for x, y in line]
        parts += _line(name, places, number)
    return "\n".join([*parts, "</svg>", ""])


def _grid(across: _Axis, up: _Axis) -> Iterator[str]:
    for x, label in across.ticks():
        yield f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>'
        yield _text(x, _HEIGHT - _BOTTOM + 18, label, "middle")
    for y, label in up.ticks():
        yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
        yield _text(_LEFT - 6, y + 4, label, "end")


def _line(name: str, places: Points, number: int) -> Iterator[str]:
    color = _COLORS[number % len(_COLORS)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>'
    beside, height = _WIDTH - _RIGHT + 14, _TOP + 10 + 20 * number
    yield f'<path d="M{beside} {height}h16" stroke="{color}" stroke-width="2"/>'
    yield _text(beside + 22, height + 4, name, "start")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
