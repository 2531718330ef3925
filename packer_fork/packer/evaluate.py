"""Expressions evaluated by ``packer console``, for what a build depends on.

The console evaluates the last line only, answers a line over 64 KiB with nothing and
exit code 0, and calls an answer unknown as a whole if any part of it is. Therefore
expressions go in batches, which are halved where there is no answer. What it prints
is masked: values travel as base64, or as hexadecimal digits of a JSON template's, in
an alphabet that no secret is written in.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import string
import subprocess
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.program import Program
from packer_fork.packer.question import ask
from packer_fork.template.reader import is_hcl

_MAX_LINE = 48_000
_MAX_CALLS = 100

_BASE64 = f"{string.ascii_letters}{string.digits}+/="
_FOREIGN = {letter: chr(0x4E00 + index) for index, letter in enumerate(_BASE64)}
_ALPHABET = ",".join(f'"{letter}"="{foreign}"' for letter, foreign in _FOREIGN.items())
_BACK = str.maketrans({foreign: letter for letter, foreign in _FOREIGN.items()})
_DIGITS = string.hexdigits[:16]
_AS_DIGITS = " | ".join(
    ('printf "%v"', 'printf "%x"', *(f'replace_all "{d}" "{_FOREIGN[d]}"' for d in _DIGITS))
)
_BETWEEN = chr(0x4E00 + len(_BASE64))
_ROOM = 64
_LEGACY_ROOM = len(_AS_DIGITS.encode()) + 16
_HEX = re.compile(r"(?:[0-9a-f]{2})*")

Values = dict[str, object]


class Evaluator:
    """The evaluator of one template, given its variables, in the working directory."""

    def __init__(
        self,
        program: Program,
        template: str,
        flags: PackerFlags,
        environ: Mapping[str, str],
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """`doubt` is called where something has no value, before it is searched for."""
        self._command = (program.path, "console", *flags.variable_arguments(), template)
        self._environ = environ
        self._legacy = not is_hcl(Path(template))
        self._doubt = doubt
        self._doubted = False
        self._calls = 0

    def __call__(self, expressions: Mapping[str, str]) -> Values | None:
        """JSON values by the names of `expressions`, without those that have no value yet.

        Expressions are HCL on one line or, for a JSON template, what stands between
        the braces. None if Packer cannot load the template with these variables, or
        too much of it has no value.
        """
        if not expressions:
            return {}
        self._calls = 0
        items = list(expressions.items())
        found: Values = {}
        for batch in _batches(items, _LEGACY_ROOM if self._legacy else _ROOM):
            found |= self._evaluate(batch)
        if self._calls > _MAX_CALLS or (not found and self._probe() is None):
            return None
        return found

    def _probe(self) -> str | None:
        return self._ask('{{printf "x"}}' if self._legacy else '"x"')

    def _evaluate(self, batch: Sequence[tuple[str, str]]) -> Values:
        self._calls += 1
        if self._calls > _MAX_CALLS:
            return {}
        sources = [source for _, source in batch]
        values = self._legacy_values(sources) if self._legacy else self._values(sources)
        if values is not None and len(values) == len(batch):
            named = zip((name for name, _ in batch), values, strict=True)
            return {name: value[0] for name, value in named if value}
        if not self._doubted:
            self._doubted = True
            self._doubt()
        if len(batch) == 1 or (self._calls == 1 and self._probe() is None):
            return {}
        half = len(batch) // 2
        return self._evaluate(batch[:half]) | self._evaluate(batch[half:])

    def _values(self, sources: Sequence[str]) -> list[list[Any] | None] | None:
        """Each value in a list of its own, so that null is not taken for none."""
        items = ",".join(f"try([{source}],null)" for source in sources)
        letters = f'split("",base64encode(jsonencode([{items}])))'
        # Letters set apart are masked only by a secret of one letter; the other alphabet is
        # safe from that too, but takes Packer a minute for some hundred KB.
        apart = (self._ask(f'join("|",{letters})') or "").strip('"').replace("|", "")
        values = _decoded(apart)
        if values is None and apart:
            answer = self._ask(f'join("",[for c in {letters}: lookup({{{_ALPHABET}}},c,"")])')
            values = _decoded((answer or "").strip('"').translate(_BACK))
        return values

    def _legacy_values(self, sources: Sequence[str]) -> list[list[Any] | None] | None:
        """Packer 1.15 and later mask each line of a secret, however short it is."""
        answer = self._ask(_BETWEEN.join(f"{{{{{source} | {_AS_DIGITS}}}}}" for source in sources))
        parts = [] if answer is None else answer.translate(_BACK).split(_BETWEEN)
        if not all(_HEX.fullmatch(part) for part in parts):
            return None
        return [[bytes.fromhex(part).decode("utf-8", "replace")] for part in parts]

    def _ask(self, line: str) -> str | None:
        try:
            answer = ask(self._command, self._environ, line=line)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.output.strip().rpartition("\n")[2] if answer.code == 0 else None


def _decoded(answer: str) -> list[list[Any] | None] | None:
    """The values in an answer in base64; None if Packer masked or withheld part of it."""
    try:
        text = base64.b64decode(answer, validate=True)
        return msgspec.convert(json.loads(text, parse_float=_number), list[list[Any] | None])
    except (binascii.Error, ValueError, RecursionError, msgspec.ValidationError):
        return None


def _number(digits: str) -> float | Decimal:
    """Packer counts with more digits than a float has: what no float is stays as it is."""
    number = float(digits)
    return number if Decimal(repr(number)) == Decimal(digits) else Decimal(digits)


def _batches(items: Sequence[tuple[str, str]], beside: int) -> list[list[tuple[str, str]]]:
    """Parts that fit a line; an expression that alone does not fit is left out.

    `beside` is the number of bytes that an expression takes besides its own.
    """
    batches: list[list[tuple[str, str]]] = []
    room = 0
    for name, source in items:
        size = len(source.encode("utf-8", "surrogateescape")) + beside
        if size > _MAX_LINE or "\n" in source:
            continue
        if size > room:
            batches.append([])
            room = _MAX_LINE
        batches[-1].append((name, source))
        room -= size
    return batches
