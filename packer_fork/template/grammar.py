"""HCL by tree-sitter, within bounds: an error in it costs what it touches, no more."""

from __future__ import annotations

import time
from functools import cache

import tree_sitter_hcl
from tree_sitter import Language, Node, Parser

from packer_fork.template.contents import MAX_SOURCE

MAX_SECONDS = 1.0
"""Of the processor, for one file: an open text is read in the square of its length."""

_BOM = b"\xef\xbb\xbf"
_PIECE = 1 << 16
_SMALL = 8 << 10


class TooComplexError(ValueError):
    """A source that is beyond the bounds."""


def parse(source: bytes) -> Node:
    """The root of `source`. Raises TooComplexError."""
    if len(source) > MAX_SOURCE:
        raise TooComplexError
    text = source.removeprefix(_BOM)
    if len(text) > _SMALL:
        _try(text)
    return Parser(_language()).parse(text).root_node


def _try(text: bytes) -> None:
    """Parse in vain: only what comes in pieces can be given up, and its nodes are slow to read."""
    began = time.process_time()
    try:
        Parser(_language()).parse(
            lambda offset, _: text[offset : offset + _PIECE],
            progress_callback=lambda *_: time.process_time() - began > MAX_SECONDS,
        )
    except ValueError as error:
        raise TooComplexError from error


@cache
def _language() -> Language:
    return Language(tree_sitter_hcl.language())
