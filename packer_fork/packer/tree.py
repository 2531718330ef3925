"""The tree of build blocks that ``packer inspect`` prints for HCL2. No I/O.

It is meant for people and has no other form; indentation tells what belongs where, alike
from 1.6 to 1.16. A description in it may hold anything.
"""

from __future__ import annotations

import re

from msgspec import Struct

_BLOCK = re.compile(r"  > (.*):")
_DESCRIPTION = "  > Description: "
_SECTION = re.compile(r"    (sources|provisioners|post-processors):")
_ENTRY = re.compile(r" {6}(?:  )?([^\s<].*)")
_LIST = re.compile(r"      \d+:")


class Block(Struct):
    """One build block as inspect prints it; the name is empty if it has none."""

    name: str
    sources: list[str] = []
    provisioners: list[str] = []
    post_processors: list[str] = []


def blocks(tree: str) -> list[Block]:
    """The build blocks in a text that starts with ``> builds:``, in their order."""
    found: list[Block] = []
    section = ""
    rows = [row for row in tree.split("\n") if row.strip()]
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        if (head := _BLOCK.fullmatch(row)) and _begins_block(following):
            unnamed = head[1] == f"<unnamed build {len(found)}>"
            found.append(Block("" if unnamed else head[1]))
        elif found and (head := _SECTION.fullmatch(row)):
            section = head[1].replace("-", "_")
            getattr(found[-1], section).clear()
        elif section and not _LIST.fullmatch(row) and (entry := _ENTRY.fullmatch(row)):
            getattr(found[-1], section).append(entry[1])
    return found


def _begins_block(row: str) -> bool:
    """Whether `row` follows the head of a block: a description may hold anything."""
    return row == "    sources:" or row.startswith(_DESCRIPTION)
