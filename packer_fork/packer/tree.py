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
    """One build block as inspect prints it; the name is empty if it has none.

    ``chained``: indices of post-processors that take what the one before them made.
    """

    name: str
    sources: list[str] = []
    provisioners: list[str] = []
    post_processors: list[str] = []
    chained: list[int] = []


def blocks(tree: str) -> list[Block]:
    """The build blocks in a text that starts with ``> builds:``, in their order."""
    found: list[Block] = []
    section, is_chained = "", False
    rows = [row for row in tree.split("\n") if row.strip()]
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        if (head := _BLOCK.fullmatch(row)) and _begins_block(following):
            unnamed = head[1] == f"<unnamed build {len(found)}>"
            found.append(Block("" if unnamed else head[1]))
        elif found and (head := _SECTION.fullmatch(row)):
            section = head[1].replace("-", "_")
            getattr(found[-1], section).clear()
        elif section and _LIST.fullmatch(row):
            is_chained = False
        elif section and (entry := _ENTRY.fullmatch(row)):
            getattr(found[-1], section).append(entry[1])
            if section == "post_processors":
                found[-1].chained += [len(found[-1].post_processors) - 1] * is_chained
                is_chained = True
    return found


def _begins_block(row: str) -> bool:
    """Whether `row` follows the head of a block: a description may hold anything."""
    return row == "    sources:" or row.startswith(_DESCRIPTION)
