"""Globs over paths with ``/`` between the parts: ``*`` within one part, ``**`` over any number."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator

from packer_fork.template.contents import ANYTHING

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?[^\]/]+\]|.", re.DOTALL)
_MEANING = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]", ANYTHING: ".*"}
_BRACES = re.compile(r"\{([^{}]*)\}")
WILD = frozenset("*?[")


@functools.cache
def pattern(wild: str) -> re.Pattern[str]:
    """Matches what `wild` names, and all that lies below it."""
    return re.compile(f"{_source(wild.strip('/'))}(?:/.*)?", re.DOTALL)


def _source(wild: str) -> str:
    return "".join(_piece(token) for token in _TOKEN.findall(wild))


def _piece(token: str) -> str:
    if len(token) > 1 and token.startswith("["):
        inner = token[1:-1].replace("\\", r"\\")
        return f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
    return _MEANING.get(token) or re.escape(token)


@functools.cache
def unknown_parts(text: str, *, across: bool = True) -> re.Pattern[str]:
    """Matches what `text` could come to, and all that lies below it.

    `across`: whether an unknown part may hold a ``/``.
    """
    source = (".*" if across else "[^/]*").join(re.escape(each) for each in text.split(ANYTHING))
    return re.compile(f"{source}(?:/.*)?", re.DOTALL)


@functools.cache
def open_glob(wild: str) -> re.Pattern[str]:
    """Matches what a glob with unknown parts could name, and all that lies below it."""
    return re.compile(f"{_source(wild)}(?:/.*)?", re.DOTALL)


def expand(folder: str, wild: str) -> Iterator[str]:
    """What exists in `folder` of what `wild` names: ``*`` ``?`` ``[a-z]`` ``**`` ``{a,b}``."""
    if alternatives := _BRACES.search(wild):
        for each in alternatives[1].split(","):
            yield from expand(
                folder, wild[: alternatives.start()] + each + wild[alternatives.end() :]
            )
        return
    python = wild.replace("[^", "[!")
    for name in glob.iglob(python, root_dir=folder, recursive=True, include_hidden=True):  # noqa: PTH207
        yield os.path.join(folder, name)  # noqa: PTH118


def fixed_folder(text: str, wild: str) -> str:
    """The leading parts of a path without any character of `wild`."""
    parts = text.split("/")
    count = next((i for i, part in enumerate(parts) if set(part) & set(wild)), len(parts) - 1)
    return "/".join(parts[:count]) or ("/" if text.startswith("/") and count else "")
