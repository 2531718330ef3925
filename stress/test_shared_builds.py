"""What the history of a shared run tells of sources that were built twice, or off the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from packer_fork.codec.builds import encode_build
from packer_fork.model import Actor, Build, BuildStatus, Change
from stress.shared_builds import NAMES, Part, parts, unsound

BY = Actor(user="u", host="h", pid=1)


def change(serial: int, *builds: Build) -> Change:
    return Change(
        serial=serial,
        id=str(serial),
        at=datetime.now(UTC),
        token=1,
        by=BY,
        operation="test",
        prev="",
        builds={build.name: encode_build(build) for build in builds},
    )


def built(name: str, part: int, status: BuildStatus) -> Build:
    return Build(name=name, run=1, item=part, status=status)


def test_parts_are_told_by_the_changes_of_their_builds() -> None:
    changes = [
        change(1, built("null.a", 0, BuildStatus.PENDING), built("null.b", 0, BuildStatus.PENDING)),
        change(2, built("null.a", 1, BuildStatus.CREATING)),
        change(3, built("null.b", 2, BuildStatus.CREATING)),
        change(4, built("null.a", 1, BuildStatus.INTERRUPTED)),
        change(5, built("null.a", 3, BuildStatus.CREATING)),
        change(6, built("null.b", 2, BuildStatus.COMPLETE)),
        change(
            7, built("null.a", 3, BuildStatus.COMPLETE), built("null.b", 2, BuildStatus.COMPLETE)
        ),
    ]
    assert parts(changes) == [
        Part(1, "null.a", 1, begun=2, complete=0),
        Part(1, "null.b", 2, begun=3, complete=6),
        Part(1, "null.a", 3, begun=5, complete=7),
    ]


def whole() -> list[Part]:
    """One part of each source, the first of them once more, as it was interrupted."""
    once = [Part(1, f"null.{name}", n, n * 10, n * 10 + 5) for n, name in enumerate(NAMES, 2)]
    return [Part(1, "null.a", 1, 10, 0), *once]


EXECUTED = Counter(f"null.{name}" for name in NAMES)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_part_may_have_been_executed(times: int) -> None:
    assert list(unsound(whole(), EXECUTED | Counter({"null.a": times}))) == []


def wrong() -> Iterator[tuple[str, list[Part], Counter[str]]]:
    made = whole()
    yield "null.b was complete 2 times", [*made, Part(1, "null.b", 20, 200, 205)], EXECUTED
    yield "null.b was complete 2 times", [*made, Part(2, "null.b", 20, 200, 205)], EXECUTED
    yield "null.b was built again", [*made, Part(1, "null.b", 20, 200, 0)], EXECUTED
    yield "null.a was complete 0 times", [made[0], *made[2:]], EXECUTED
    yield "there are no parts of ['null.i']", made[:-1], EXECUTED
    yield "null.b was executed 2 times in 1 parts", made, EXECUTED + Counter(["null.b"])
    yield "null.b was executed 0 times in 1 parts", made, EXECUTED - Counter(["null.b"])


@pytest.mark.parametrize(("says", "made", "executed"), list(wrong()))
def test_what_is_wrong_is_found(says: str, made: list[Part], executed: Counter[str]) -> None:
    (said,) = unsound(made, executed)
    assert said.startswith(says)
