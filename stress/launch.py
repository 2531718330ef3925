"""Run a command and tell its cost, as JSON: python -m stress.launch OUTPUT COMMAND...

A process of its own, and a small one: what a child is said to have used at the most
includes what its parent used when it was started.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    output, *command = sys.argv[1:]
    opened = (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[opened])
    _, status, used = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps({"code": code, "seconds": seconds, "rss": used.ru_maxrss * unit}))


if __name__ == "__main__":
    main()
