"""Actors for tests of the local lock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forking import Forking
from tests.support.stage import Stage


@pytest.fixture
def stage(tmp_path: Path, forking: Forking) -> Iterator[Stage]:
    stage = Stage(tmp_path / "t.pkr.hcl" / "default", forking)
    yield stage
    stage.close()
