"""The files that Packer loads for a template: each read once, and what they say together."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from packer_fork.errors import TemplateError
from packer_fork.template.contents import MAX_SOURCE, Contents, Literals, Sections

_TEMPLATES = (".pkr.hcl", ".pkr.json")
_VARIABLES = (".auto.pkrvars.hcl", ".auto.pkrvars.json")


Signature = tuple[int, ...]
"""What a file is known by: inode, size, mtime and ctime."""


class SourceFile(Struct, frozen=True):
    """A file as it was read. What is no regular file is not: reading a pipe would empty it."""

    path: Path
    source: bytes = b""
    is_regular: bool = True
    signature: Signature = ()


class ParsedTemplate(Struct, frozen=True, kw_only=True, dict=True):
    """A template as it was read; it is parsed once it is asked for its contents.

    ``given`` is how the user wrote it, and what Packer is given; ``path`` the same, absolute.
    ``is_hcl``: whether Packer takes it for HCL2, in either syntax. ``files`` are its own,
    ``variable_files`` those that Packer loads by itself and those given, in its order.
    """

    given: str
    path: Path
    is_hcl: bool
    files: tuple[SourceFile, ...]
    variable_files: tuple[SourceFile, ...]

    @cached_property
    def contents(self) -> Contents:
        return _together(self._parsed)

    @cached_property
    def unparsable(self) -> tuple[SourceFile, ...]:
        """Those of its files that we cannot read in full."""
        parsed = zip(self.files, self._parsed, strict=True)
        return tuple(file for file, contents in parsed if not contents.is_parsable)

    @cached_property
    def _parsed(self) -> list[Contents]:
        return [_parse(file) for file in self.files]


def read(given: str, variable_files: Iterable[str] = ()) -> ParsedTemplate:
    """The template `given`, with the values of ``-var-file``.

    Raises TemplateError if a file cannot be read or is larger than MAX_SOURCE.
    """
    path = Path.cwd() / given
    named = tuple(Path.cwd() / name for name in variable_files)
    try:
        files = tuple(map(_read, _template_files(path)))
        variables = tuple(map(_read, (*_automatic_variable_files(path), *named)))
    except OSError as error:
        raise TemplateError(
            f"{error.filename or given} cannot be read: {error.strerror or error}.",
            hint="Check the path and its permissions.",
        ) from error
    return ParsedTemplate(
        given=given,
        path=path,
        is_hcl=is_hcl(path),
        files=files,
        variable_files=variables,
    )


def is_current(template: ParsedTemplate) -> bool:
    """Whether its files are still those that were read."""
    known = (*template.files, *template.variable_files)
    try:
        found = [*_template_files(template.path), *_automatic_variable_files(template.path)]
        are_same = all(_signature(file.path.stat()) == file.signature for file in known)
    except OSError:
        return False
    return are_same and found == [file.path for file in known[: len(found)]]


def is_hcl(template: Path) -> bool:
    """Whether Packer reads it as HCL2; to Packer everything else is a template in older JSON.

    It goes by the name as given, not by that of the file that a link leads to.
    """
    return template.is_dir() or template.name.endswith(_TEMPLATES)


def _template_files(path: Path) -> list[Path]:
    return _directly_in(path, _TEMPLATES) if path.is_dir() else [path]


def _automatic_variable_files(path: Path) -> list[Path]:
    return _directly_in(path, _VARIABLES) if path.is_dir() else []


def _directly_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """By suffix, then by name: Packer loads HCL before JSON."""
    paths = [path for path in folder.iterdir() if path.name.endswith(tuple(suffixes))]
    files = [path for path in sorted(paths) if not path.is_dir()]
    return [path for suffix in suffixes for path in files if path.name.endswith(suffix)]


def _read(path: Path) -> SourceFile:
    """Raises OSError, TemplateError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return SourceFile(path, is_regular=False)
    if found.st_size > MAX_SOURCE:
        raise TemplateError(
            f"{path} is larger than {MAX_SOURCE >> 20} MiB.",
            hint="Is it the right file? Large data is better read by file() at build time.",
        )
    return SourceFile(path, path.read_bytes(), signature=_signature(found))


def _signature(status: os.stat_result) -> Signature:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _parse(file: SourceFile) -> Contents:
    # Where a plan is recalled, nothing is parsed: this loads the grammar.
    from packer_fork.template import hcl, hcl_json, legacy

    if not file.is_regular:
        return Contents(is_parsable=False)
    if file.path.name.endswith(".pkr.json"):
        return hcl_json.parse(file.source, str(file.path))
    if file.path.name.endswith(".pkr.hcl"):
        return hcl.parse(file.source, str(file.path))
    return legacy.parse(file.source)


def assignments(file: SourceFile) -> Mapping[str, Literals]:
    """The literals in what a file of variables assigns. Raises TooComplexError."""
    from packer_fork.template import hcl, json_document

    document = json_document.decode(file.source)
    if not isinstance(document, dict):
        return hcl.assignments(file.source)
    return {name: Literals(tuple(json_document.leaves(value))) for name, value in document.items()}


def _together(files: Sequence[Contents]) -> Contents:
    """Several files of one folder as one."""
    return Contents(
        secrets=tuple(secret for file in files for secret in file.secrets),
        mentions=tuple(mention for file in files for mention in file.mentions),
        variables={name: source for file in files for name, source in file.variables.items()},
        definitions={name: parts for file in files for name, parts in file.definitions.items()},
        unstable=frozenset().union(*(file.unstable for file in files)),
        locals=tuple(local for file in files for local in file.locals),
        references=frozenset().union(*(file.references for file in files)),
        calls=frozenset().union(*(file.calls for file in files)),
        sources=tuple(source for file in files for source in file.sources),
        sections=_sections([file.sections for file in files]),
        is_parsable=all(file.is_parsable for file in files),
        is_too_complex=any(file.is_too_complex for file in files),
    )


def _sections(files: Sequence[Sections]) -> Sections:
    return Sections(
        sources={name: section for each in files for name, section in each.sources.items()},
        builds=tuple(block for each in files for block in each.builds),
        locals={name: section for each in files for name, section in each.locals.items()},
        data={name: section for each in files for name, section in each.data.items()},
        variables={name: section for each in files for name, section in each.variables.items()},
        others=tuple(section for each in files for section in each.others),
        plugins={name: what for each in files for name, what in each.plugins.items()},
    )
