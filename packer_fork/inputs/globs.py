"""Globs over paths with ``/`` between the parts: ``*`` within one part, ``**`` over any number."""

from __future__ import annotations

import functools
import re

from packer_fork.inputs.mentions import ANYTHING

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|.", re.DOTALL)
_MEANING = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@functools.cache
def pattern(glob: str) -> re.Pattern[str]:
    """Matches what `glob` names, and all that lies below it."""
    source = "".join(
        _MEANING.get(token) or re.escape(token) for token in _TOKEN.findall(glob.strip("/"))
    )
    return re.compile(f"{source}(?:/.*)?", re.DOTALL)


@functools.cache
def unknown_parts(text: str) -> re.Pattern[str]:
    """Matches what `text` could come to, and all that lies below it."""
    source = ".*".join(re.escape(piece) for piece in text.split(ANYTHING))
    return re.compile(f"{source}(?:/.*)?", re.DOTALL)


def fixed_folder(text: str, wild: str) -> str:
    """The leading parts of a path without any character of `wild`."""
    parts = text.split("/")
    count = next((i for i, part in enumerate(parts) if set(part) & set(wild)), len(parts) - 1)
    return "/".join(parts[:count]) or ("/" if text.startswith("/") and count else "")
