"""Asks a circuit breaker from a process of its own; run by tests.

Arguments: the folder, the location, seconds for a probe. Each line on stdin is one of `before`,
`succeeded`, `failed`; the answer is `made`, `refused` or `told`.
"""

import sys
from pathlib import Path

from packer_fork.errors import StoreError
from packer_fork.stores.circuit_breaker import CircuitBreaker


def answer(breaker: CircuitBreaker, word: str) -> str:
    if word == "before":
        try:
            breaker.before()
        except StoreError:
            return "refused"
        return "made"
    if word == "succeeded":
        breaker.succeeded()
    else:
        breaker.failed("no answer")
    return "told"


def main(folder: Path, location: str, timeout: float) -> None:
    breaker = CircuitBreaker(location, folder=folder, timeout=timeout)
    print("ready", flush=True)  # noqa: T201 (its one way to tell)
    for line in sys.stdin:
        print(answer(breaker, line.strip()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
