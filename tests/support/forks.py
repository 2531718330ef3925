"""Work in a forked process, and how it ended."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a process group of its own; from processes of one thread only."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 (a child tells by its exit code and its words)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait_for(pids: list[int]) -> None:
    """Raises ChildProcessError if one of them ended in any way but well."""
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1] != 0]
    if failed:
        raise ChildProcessError(f"{len(failed)} of {len(pids)} processes failed")
