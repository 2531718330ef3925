"""Asking Packer's own evaluator what secret variables are worth, by ``packer console``.

Packer hides sensitive values in what the console prints, wherever they occur, so
answers travel with a separator after every character or byte: a secret that is
longer than that cannot occur in them. The console reads a line of up to 64 KiB and
answers a longer one with nothing; it evaluates the last line only.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.literals import leaves, parse_json
from packer_fork.packer.program import Program, ask

_BATCH = 100
_LONGEST_NAME = 256
_IDENTIFIER = re.compile(r"(?:var|local)\.[^\W\d][\w-]*")

Values = dict[str, tuple[str, ...]]
"""By expression or name: every string and number in the value. What is unknown is missing."""


class Console:
    """The evaluator for one template with its variables."""

    def __init__(
        self, program: Program, template: str, flags: PackerFlags, environ: Mapping[str, str]
    ) -> None:
        self._command = (program.path, "console", *flags.variable_arguments(), template)
        self._environ = environ

    def of_hcl(self, expressions: Sequence[str]) -> Values:
        """The values of ``var.x`` and ``local.y``."""
        known = [each for each in expressions if _IDENTIFIER.fullmatch(each)]
        found: Values = {}
        for batch in _batches(known):
            found |= self._evaluate(batch)
        return found

    def of_json(self, names: Sequence[str]) -> Values:
        """The values of the user variables of a legacy JSON template."""
        found: Values = {}
        for batch in _batches(names):
            quoted = (json.dumps(name, ensure_ascii=False) for name in batch)
            answer = self._ask("|".join(f'{{{{user {name} | printf "% x"}}}}' for name in quoted))
            parts = () if answer is None else answer.split("|")
            if len(parts) == len(batch):
                found |= {
                    name: (value,)
                    for name, part in zip(batch, parts, strict=True)
                    if (value := _from_hex(part)) is not None
                }
        return found

    def _evaluate(self, expressions: Sequence[str]) -> Values:
        """One that has no value makes the whole answer unknown: then each half is asked for."""
        items = ",".join(f"try({each},null)" for each in expressions)
        answer = self._ask(f'join("|",split("",base64encode(jsonencode([{items}]))))')
        if answer is None:
            return {}
        values = _from_base64(answer)
        if values is not None and len(values) == len(expressions):
            return {
                each: tuple(leaves(value)) for each, value in zip(expressions, values, strict=True)
            }
        if len(expressions) == 1:
            return {}
        half = len(expressions) // 2
        return self._evaluate(expressions[:half]) | self._evaluate(expressions[half:])

    def _ask(self, line: str) -> str | None:
        """The last line of the answer; None if Packer cannot evaluate this template at all."""
        try:
            answer = ask(self._command, self._environ, line=line)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.output.strip().rpartition("\n")[2] if answer.code == 0 else None


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    short = [name for name in names if len(name) <= _LONGEST_NAME]
    return (short[start : start + _BATCH] for start in range(0, len(short), _BATCH))


def _from_base64(answer: str) -> list[object] | None:
    characters = answer.split("|")
    if any(len(character) != 1 for character in characters):
        return None
    try:
        values = parse_json(base64.b64decode("".join(characters), validate=True))
    except binascii.Error:
        return None
    return values if isinstance(values, list) else None


def _from_hex(answer: str) -> str | None:
    try:
        return bytes.fromhex(answer).decode("utf-8", "replace")
    except ValueError:
        return None
