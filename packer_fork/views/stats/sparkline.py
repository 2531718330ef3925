"""Durations as a line of blocks, one for each build: as high as it took long."""

from __future__ import annotations

from collections.abc import Sequence

from packer_fork.model import BuildStatus
from packer_fork.statistics import BuildPoint

_BLOCKS = ("▁▂▃▄▅▆▇█", "12345678")
_FAILED = ("✗", "x")
_LEFT_OUT = ("·", ".")
"""Each as it is, and where only ASCII can be shown."""

_AT_WORD = frozenset({BuildStatus.CANCELLED, BuildStatus.SKIPPED})


def sparkline(builds: Sequence[BuildPoint], cells: int, *, ascii_only: bool) -> str:
    """The newest of `builds`, as many as there are cells; zero is below the lowest block."""
    shown = builds[-cells:] if cells > 0 else ()
    done = (build.seconds or 0.0 for build in shown if build.status == BuildStatus.COMPLETE)
    longest = max(done, default=0.0)
    return "".join(_sign(build, longest)[ascii_only] for build in shown)


def _sign(build: BuildPoint, longest: float) -> tuple[str, str]:
    if build.status in _AT_WORD:
        return _LEFT_OUT
    if build.status != BuildStatus.COMPLETE:
        return _FAILED
    blocks, digits = _BLOCKS
    share = (build.seconds or 0.0) / longest if longest else 0.0
    step = min(len(blocks) - 1, int(share * len(blocks)))
    return blocks[step], digits[step]
