"""Locks under random kills: many processes, some killed, some force-unlocked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stress.scale import Scale
from tests.support.stage import ROOT


@pytest.mark.timeout(7200)
def test_locks_under_random_kills_keep_every_promise(tmp_path: Path, scale: Scale) -> None:
    chaos = [sys.executable, "-m", "stress.lock_chaos", "--seconds", str(scale.seconds)]
    done = subprocess.run(
        [*chaos, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    held, kills, unlocks = (int(number) for number in re.findall(r"(\d+) [lku]", done.stdout))
    assert min(held, kills, unlocks) > 0
