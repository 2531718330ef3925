"""What a fingerprint cannot know, each by the name that a user may declare trust in."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from packer_fork.inputs.mentions import ANYTHING, Mention, Section
from packer_fork.inputs.texts import Values
from packer_fork.inputs.value_roles import ValueRole

REMOTE_FUNCTIONS = (
    "vault",
    "consul_key",
    "aws_secretsmanager",
    "aws_secretsmanager_raw",
    "aws_ssm_parameterstore",
)
"""Functions that ask a server for a value."""


def of_sections(sections: Sequence[Section], values: Values) -> Iterator[str]:
    """Data sources, values kept by servers, downloads that nothing pins."""
    for section in sections:
        yield from (name for name in section.references if name.startswith("data."))
        yield from (name for name in REMOTE_FUNCTIONS if name in section.calls)
    mentions = [mention for section in sections for mention in section.mentions]
    pinned = set(_pinned(mentions, values))
    for mention in mentions:
        path = mention.place.path
        is_fetched = mention.role is ValueRole.URL and mention.place.kind == "source"
        if is_fetched and not any((_group(mention), n) in pinned for n in _vouching(path[-1])):
            for text in values.texts(mention):
                if _is_remote(text) and "checksum=" not in text:
                    yield f"{'.'.join(path)} {_without_secrets(text)}"


def _group(mention: Mention) -> tuple[str, tuple[str, ...]]:
    """The block or object that a value stands in."""
    return mention.place.block, mention.place.path[:-1]


def _vouching(name: str) -> Iterator[str]:
    """Attributes that hold the checksum of what the URL attribute `name` downloads."""
    stem = re.fullmatch(r"(.*?)_?(?:urls?|path)?", name)[1]  # type: ignore[index]
    yield from (f"{stem}_checksum", f"{stem}_sha256")
    if stem in ("", "source"):
        yield "checksum"


def _pinned(
    mentions: Iterable[Mention], values: Values
) -> Iterator[tuple[tuple[str, tuple[str, ...]], str]]:
    """The attributes with a checksum that is a value, or stands in a file here."""
    for mention in mentions:
        if mention.role is ValueRole.CHECKSUM:
            for text in values.texts(mention):
                known = text not in ("", "none") and ANYTHING not in text
                if known and not _is_remote(text.removeprefix("file:")):
                    yield _group(mention), mention.place.path[-1]


def _is_remote(text: str) -> bool:
    scheme, separator, _ = text.rpartition("::")[2].partition("://")
    return bool(separator) and scheme.isalnum() and scheme != "file"


def _without_secrets(url: str) -> str:
    """A URL without user, password and query, for people."""
    try:
        parts = urlsplit(url.replace(ANYTHING, "*"))
    except ValueError:
        return "URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def without_assumed(unknown: Iterable[str], assumed: frozenset[str]) -> tuple[str, ...]:
    """Those that the user does not trust; ``data.NAME`` stands for a data source of any type."""
    return tuple(sorted({name for name in unknown if not _is_assumed(name, assumed)}))


def _is_assumed(name: str, assumed: frozenset[str]) -> bool:
    names = {name}
    if name.startswith("data."):
        names.add(f"data.{name.rpartition('.')[2]}")
    return any(fnmatch.fnmatchcase(each, pattern) for each in names for pattern in assumed)
