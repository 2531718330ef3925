"""The output of builds, and those lines of it that look like the cause of a failure."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from msgspec import Struct

from packer_fork import events
from packer_fork.model import BuildStatus
from packer_fork.terminal import clean

FAILED = frozenset({BuildStatus.FAILED, BuildStatus.INTERRUPTED, BuildStatus.UNVERIFIED})

MOST_LINES = 3
"""LikelyLines of output that are shown for a failed build."""

SCREEN = 24
"""LikelyLines that the user still sees when a run has ended."""

_SUSPICIOUS = re.compile(
    r"\b(?:errors?|fatal|panic|fail(?:ed|ure|s)?|denied|refused|unable|cannot|can't|could not|"
    r"no such|not found|not permitted|invalid|missing|unknown|unauthorized|forbidden|exception|"
    r"traceback|timed? ?out|unreachable|killed|abort(?:ed)?|no space)\b|^E: ",
    re.IGNORECASE,
)
_PACKER_ITSELF = re.compile(r"^(?:Provisioning step had errors|Script exited with|Build ')")
_TAB = 4


def lines_of(name: str, text: str) -> Iterator[str]:
    """The lines of Packer's text about build `name`, without its name, nor Packer's summary.

    Harmless for a terminal, without tabs, none empty.
    """
    if text.startswith("Build '"):
        return
    for line in clean(text).splitlines():
        bare = _prefix(clean(name)).sub("", line, count=1).expandtabs(_TAB).rstrip()
        if bare:
            yield bare


@lru_cache(maxsize=256)
def _prefix(name: str) -> re.Pattern[str]:
    stamp = r"(?:\d{4}-\d\d-\d\dT[\d:]+(?:Z|[+-]\d\d:\d\d): )?"
    return re.compile(rf"^{stamp}(?:==>|   |-->) {re.escape(name)}(?: \([\w.-]+\))?:(?: |$)")


class LikelyLines(Struct, frozen=True):
    """The output of a build, as far as it may explain a failure: both the newest."""

    suspicious: tuple[str, ...] = ()
    newest: tuple[str, ...] = ()

    def after(self, lines: Iterable[str]) -> LikelyLines:
        new = tuple(line for line in lines if not _PACKER_ITSELF.search(line))
        marked = tuple(filter(_SUSPICIOUS.search, new))
        return LikelyLines(
            suspicious=(*self.suspicious, *marked)[-MOST_LINES:],
            newest=(*self.newest, *new)[-MOST_LINES:],
        )

    def likely(self, shown: Collection[str] = ()) -> list[str]:
        """Those that look like the cause, without what is `shown` already."""
        return [line for line in self.suspicious or self.newest if line not in shown]


class Transcript:
    """Remembers the output of a run for the summary of its failures."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, LikelyLines] = defaultdict(LikelyLines)
        self._screen: deque[str] = deque(maxlen=SCREEN)

    def add(self, event: events.Output, *, is_shown: bool) -> None:
        lines = list(lines_of(event.build, event.text))
        if event.build:
            self._lines[event.build] = self._lines[event.build].after(lines)
        if is_shown:
            self._screen += lines

    def likely(self, build: str) -> list[str]:
        return self._lines[build].likely(self._screen)
