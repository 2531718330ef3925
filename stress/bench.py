"""What all of it costs, beside what it is compared with: python -m stress.bench [--quick]

The exit code tells of correctness only (what was written reads back, order and exclusion
of the lock, by the checker), never of times.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stress import figures, machine
from stress.build_bench import builds
from stress.history_bench import growing
from stress.lock_bench import lock
from stress.meter import Bench
from stress.one_change import commit_and_load, one_change
from stress.process_bench import processes
from stress.shared_bench import shared
from stress.sharing_bench import sharing
from stress.size_bench import sizes
from stress.whole_states import compressed_or_not, hundred_builds, many_builds


def main() -> int:
    parser = argparse.ArgumentParser(prog="stress.bench")
    parser.add_argument("--quick", action="store_true", help="shorter, the same in kind")
    parser.add_argument("--folder", type=Path, help="on the file system to be measured")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="cost against size, drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, for programs")
    parser.add_argument("--only", default="hlmiabcdekgf", metavar="PARTS", help="some of them")
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="the table in it, anew; of other parts than --only the rows stay",
    )
    asked = parser.parse_args()
    parts: dict[str, Callable[[Bench], None]] = {
        "a": many_builds,
        "b": one_change,
        "c": commit_and_load,
        "d": hundred_builds,
        "e": processes,
        "f": lambda bench: growing(bench, asked.plots and asked.plots / "runs.svg"),
        "g": compressed_or_not,
        "h": lock,
        "i": builds,
        "l": shared,
        "m": sharing,
        "k": lambda bench: sizes(bench, asked.plots and asked.plots / "builds.svg"),
    }
    if unknown := set(asked.only) - parts.keys():
        parser.error(f"--only: no part is called {min(unknown)!r}; there are {''.join(parts)}")
    if asked.page and asked.quick:
        parser.error("--page: its table is not for --quick")
    if asked.page and not figures.has_place(asked.page):
        parser.error(f"--page: {asked.page} is no file with the two marks of the table")
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        told = machine.line(Path(place))
        print(told)
        bench = Bench(Path(place), told, quick=asked.quick)
        for part in asked.only:
            parts[part](bench)
            bench.clear()
            os.sync()  # what is written back later would disturb the next
    if asked.page and not bench.wrong:
        figures.renew(asked.page, told, bench.figures)
    if asked.json:
        asked.json.write_bytes(bench.as_json())
    print(f"{len(bench.wrong)} wrong" if bench.wrong else "\nall that was written reads back")
    return 1 if bench.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
