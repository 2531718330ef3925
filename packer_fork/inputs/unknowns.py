"""What a fingerprint cannot know, each by the name that a user may declare trust in."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from packer_fork.inputs.texts import Values
from packer_fork.template.contents import ANYTHING, At, Mention, Section
from packer_fork.template.value_roles import ValueRole

REMOTE_FUNCTIONS = (
    "vault",
    "consul_key",
    "aws_secretsmanager",
    "aws_secretsmanager_raw",
    "aws_ssm_parameterstore",
)
"""Functions that ask a server for a value."""


class Unknowable(Struct, frozen=True):
    """Something that bears on a build and has no digest.

    ``name``: by which a user may declare trust in it. ``at``: where the template has it, None
    if it is none of the template's. ``setting``: what would track it, "" if nothing does.
    """

    name: str
    at: At | None = None
    setting: str = ""


def of_sections(sections: Sequence[Section], values: Values) -> Iterator[Unknowable]:
    """Data sources, values kept by servers, downloads that nothing pins: what forces a build."""
    for section in sections:
        for name in section.references:
            if name.startswith("data."):
                yield Unknowable(name, _data_block(sections, name) or section.at, _COMMANDS)
        for name in REMOTE_FUNCTIONS:
            if name in section.calls:
                yield Unknowable(name, section.at, _COMMANDS)
    mentions = [mention for section in sections for mention in section.mentions]
    pinned = set(_pinned(mentions, values))
    for mention in mentions:
        path = mention.place.path
        is_fetched = mention.role is ValueRole.URL and mention.place.kind == "source"
        if is_fetched and not any((_group(mention), n) in pinned for n in _vouching(path[-1])):
            for text in values.texts(mention):
                if _is_remote(text) and "checksum=" not in text:
                    name = f"{'.'.join(path)} {_without_secrets(text)}"
                    yield Unknowable(name, mention.at, _CHECKSUMS.get(mention.attribute, ""))


def _data_block(sections: Sequence[Section], name: str) -> At | None:
    label = f"data {name.removeprefix('data.')}"
    return next((section.at for section in sections if section.label == label), None)


_COMMANDS = "input_commands"
_CHECKSUMS = {"iso_url": "iso_checksum", "iso_urls": "iso_checksum", "source_path": "checksum"}

_MOVING = frozenset(
    (
        *("source_ami_filter", "source_omi_filter", "source_image_filter", "base_image_filter"),
        *("image_filter", "source_image_family"),
    )
)
"""Attributes by which builders look for the newest image, whatever the builder."""

_NEWEST = "most_recent"
_NEWEST_WITHIN = re.compile(rf"\b{_NEWEST}\b")


def moving(sections: Sequence[Section], values: Values) -> Iterator[Unknowable]:
    """Base images that a server may exchange without a change of the template.

    They do not force a build. As of the documentation of each builder.
    """
    given: dict[str, dict[str, list[str]]] = {}
    for section in (each for each in sections if _is_source(each)):
        by_name = given.setdefault(section.label, {})
        for mention in section.mentions:
            found = (text.strip() for text in values.texts(mention))
            by_name.setdefault(mention.attribute, []).extend(found)
    for section in (each for each in sections if _is_source(each)):
        texts_of = given[section.label]
        names = (path for path, text in section.tokens.items() if _moves(section, path, text))
        for name in dict.fromkeys(path.partition(".")[0] for path in names):
            if not _PINNED.get((section.type, name), _never)(texts_of):
                label = section.label.partition(" ")[2]
                yield Unknowable(f"{name} of {label}", section.place_of(name), _COMMANDS)


def _is_source(section: Section) -> bool:
    return section.label.startswith(("source ", "builder "))


def _moves(section: Section, path: str, text: str) -> bool:
    name = path.partition(".")[0]
    is_newest = path.rpartition(".")[2] == _NEWEST or _NEWEST_WITHIN.search(text) is not None
    return name in _MOVING or is_newest or (section.type, name) in _PINNED


_Texts = Mapping[str, Sequence[str]]
"""What a source says, by attribute."""


def _never(_: _Texts) -> bool:
    return False


def _by(attribute: str, is_fixed: Callable[[str], bool]) -> Callable[[_Texts], bool]:
    """Whether all that is known of an attribute, and something is, is fixed."""

    def is_pinned(given: _Texts) -> bool:
        found = given.get(attribute, ())
        return bool(found) and all(map(is_fixed, found))

    return is_pinned


def _is_version(text: str) -> bool:
    return text not in ("", "latest")


def _is_box_file(text: str) -> bool:
    """A file or a URL, not a box of a registry."""
    return text.endswith(".box") or "://" in text


_by_digest = _by("image", lambda text: "@sha256:" in text)
_by_number = _by("image", str.isdigit)
_by_version = _by("image_version", _is_version)


def _by_box(given: _Texts) -> bool:
    is_file = _by("source_path", _is_box_file)(given)
    return is_file or _by("box_version", _is_version)(given)


_PINNED: Mapping[tuple[str, str], Callable[[_Texts], bool]] = {
    ("docker", "image"): _by_digest,
    ("azure-arm", "image_publisher"): _by_version,
    ("azure-arm", "shared_image_gallery"): _by_version,
    ("azure-dtl", "image_publisher"): _by_version,
    ("vagrant", "source_path"): _by_box,
    ("digitalocean", "image"): _by_number,
    ("hcloud", "image"): _by_number,
    ("linode", "image"): _never,
    ("lxd", "image"): _never,
}
"""Attributes that name what moves for one builder alone, with what pins it."""


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


def without_assumed(
    found: Iterable[Unknowable], assumed: frozenset[str]
) -> tuple[tuple[Unknowable, ...], tuple[Unknowable, ...]]:
    """Those that the user does not trust, and those that the user does; each name once.

    ``data.NAME`` stands for a data source of any type, the attribute of a source for that
    of any source.
    """
    by_name: dict[str, Unknowable] = {}
    for each in found:
        by_name.setdefault(each.name, each)
    listed = [by_name[name] for name in sorted(by_name)]
    return (
        tuple(each for each in listed if not _is_assumed(each.name, assumed)),
        tuple(each for each in listed if _is_assumed(each.name, assumed)),
    )


def _is_assumed(name: str, assumed: frozenset[str]) -> bool:
    names = {name, name.partition(" of ")[0]}
    if name.startswith("data."):
        names.add(f"data.{name.rpartition('.')[2]}")
    return any(fnmatch.fnmatchcase(each, pattern) for each in names for pattern in assumed)
