"""`state migrate`, killed at a call and called again."""

import os
import signal

from tests.conftest import Cli
from tests.support.queries import changes, done, is_up_to_date

_MOST_CALLS = 100


def migrate(cli: Cli, *, step: int) -> int:
    """Kill at each renaming, or at those a `step` apart, until one migration is not killed.

    Each must be done by the next one. Returns how many were killed.
    """
    for killed, number in enumerate(range(1, _MOST_CALLS, step)):
        there = f"there{number}"
        fault = f"inject=rename:signal=SIGKILL:when={number}"
        trace = ["strace", "-qq", "-o", os.devnull, "-e", "trace=rename", "-e", fault]
        result = cli("state", "migrate", "t.pkr.hcl", "--to", there, under=trace)
        if result.rc != 0:
            assert result.rc == -signal.SIGKILL, result
            done(cli, "state", "migrate", "t.pkr.hcl", "--to", there)
        assert cli("state", "verify", "t.pkr.hcl", "--state", there).rc == 0
        if result.rc == 0:
            assert_migrated(cli, there)
            return killed
    raise AssertionError("there is always one more")


def assert_migrated(cli: Cli, there: str) -> None:
    assert changes(cli, "--state", there) == changes(cli)
    assert is_up_to_date(cli, "--state", there)
    assert cli("state", "verify", "t.pkr.hcl").rc == 0
    assert cli("logs", "t.pkr.hcl", "--state", there).out == cli("logs", "t.pkr.hcl").out
