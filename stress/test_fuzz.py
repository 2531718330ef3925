"""Readers of outside bytes: whatever they are given, an answer or a sentence, and soon."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from packer_fork.errors import PackerForkError
from stress.confined import confined, described, in_time
from stress.conftest import Say
from stress.extremes import EXTREMES
from stress.readers import READERS, Reader
from stress.scale import Scale

CASES = 120
"""Of each reader, at the smallest scale."""

_WRITTEN = frozenset(
    {"lock", "mutex", "mutex.turn", "1-1.log", ".gitignore", "states", "default", "locks"}
)
"""What a run, or who looks for its lock, writes in any case."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", READERS)
def test_mangled_bytes_are_read_or_refused(
    name: str, tmp_path: Path, scale: Scale, rng: random.Random, figure: Say
) -> None:
    reader = READERS[name](tmp_path)
    for sample in reader.samples:
        if not name.startswith(("state, c", "segment b")):
            reader.read(sample)
    seed = rng.random()
    count = CASES * scale.times
    refused, wrong, slowest = 0, Counter[str](), 0.0
    first: dict[str, str] = {}
    for number in range(count):
        began = time.process_time()
        said = _case(reader, random.Random(f"{seed} {number}"))
        slowest = max(slowest, time.process_time() - began)
        refused += said is None
        if said:
            place = said.partition(":")[0]
            wrong[place] += 1
            first.setdefault(place, f"{said} [case {seed} {number}]")
    figure("cases", count, "cases")
    figure("refused with a sentence", refused, "cases")
    figure("slowest case", slowest, "s of CPU")
    assert not wrong, _report(wrong, first)


def _case(reader: Reader, chance: random.Random) -> str | None:
    """None if it was refused, "" if it was read, else what went wrong."""
    data = reader.change(chance, chance.choice(reader.samples))
    try:
        with in_time():
            reader.read(data)
    except PackerForkError as error:
        return None if error.message else "a refusal without a word"
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return described(error)
    return ""


def _report(wrong: Counter[str], first: dict[str, str]) -> str:
    return "\n" + "\n".join(f"{times} x {first[what]}" for what, times in wrong.most_common())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_bytes_are_read_or_refused_within_bounds(name: str, tmp_path: Path) -> None:
    """In 30 seconds of the processor, and one GiB of memory."""
    work = EXTREMES[name](tmp_path)
    before = _files(tmp_path)
    assert confined(partial(_or_refused, work)) == ""
    assert before.items() <= _files(tmp_path).items(), "something was overwritten"


def _or_refused(work: Callable[[], object]) -> None:
    with contextlib.suppress(PackerForkError):
        work()


def _files(folder: Path) -> dict[str, tuple[int, ...]]:
    """What tells whether those that an extreme consists of were touched."""
    found = ((str(path), path.stat()) for path in folder.rglob("*") if path.name not in _WRITTEN)
    return {path: (now.st_ino, now.st_size, now.st_mtime_ns) for path, now in found}
