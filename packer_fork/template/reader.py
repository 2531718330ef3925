"""The files that Packer loads for a template: each read once, and what they say together."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from packer_fork.errors import TemplateError
from packer_fork.template import hcl, hcl_json, json_document, legacy
from packer_fork.template.contents import Contents, Literals, Sections
from packer_fork.template.grammar import MAX_SOURCE

_TEMPLATES = (".pkr.hcl", ".pkr.json")
_VARIABLES = (".auto.pkrvars.hcl", ".auto.pkrvars.json")


class SourceFile(Struct, frozen=True):
    """A file as it was read. What is no regular file is not: reading a pipe would empty it."""

    path: Path
    source: bytes = b""
    is_regular: bool = True


class ParsedTemplate(Struct, frozen=True, kw_only=True):
    """A template as it was read.

    ``given`` is how the user wrote it, and what Packer is given; ``path`` the same, absolute.
    ``is_hcl``: whether Packer takes it for HCL2, in either syntax. ``files`` are its own,
    ``unparsable`` those of them that we cannot read in full; ``variable_files`` those that Packer
    loads by itself and those given, in its order.
    """

    given: str
    path: Path
    is_hcl: bool
    contents: Contents
    files: tuple[SourceFile, ...]
    unparsable: tuple[SourceFile, ...]
    variable_files: tuple[SourceFile, ...]


def read(given: str, variable_files: Iterable[str] = ()) -> ParsedTemplate:
    """The template `given`, with the values of ``-var-file``.

    Raises TemplateError if a file cannot be read or is larger than MAX_SOURCE.
    """
    path = Path.cwd() / given
    try:
        found = _directly_in(path, _TEMPLATES) if path.is_dir() else [path]
        automatic = _directly_in(path, _VARIABLES) if path.is_dir() else []
        files = tuple(map(_read, found))
        variables = (*automatic, *(Path.cwd() / name for name in variable_files))
        variable_sources = tuple(map(_read, variables))
    except OSError as error:
        raise TemplateError(
            f"{error.filename or given} cannot be read: {error.strerror or error}.",
            hint="Check the path and its permissions.",
        ) from error
    parsed = [_parse(file) for file in files]
    return ParsedTemplate(
        given=given,
        path=path,
        is_hcl=is_hcl(path),
        contents=_together(parsed),
        files=files,
        unparsable=tuple(f for f, each in zip(files, parsed, strict=True) if not each.is_parsable),
        variable_files=variable_sources,
    )


def is_hcl(template: Path) -> bool:
    """Whether Packer reads it as HCL2; to Packer everything else is a template in older JSON.

    It goes by the name as given, not by that of the file that a link leads to.
    """
    return template.is_dir() or template.name.endswith(_TEMPLATES)


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
    return SourceFile(path, path.read_bytes())


def _parse(file: SourceFile) -> Contents:
    if not file.is_regular:
        return Contents(is_parsable=False)
    if file.path.name.endswith(".pkr.json"):
        return hcl_json.parse(file.source, str(file.path))
    if file.path.name.endswith(".pkr.hcl"):
        return hcl.parse(file.source, str(file.path))
    return legacy.parse(file.source)


def assignments(file: SourceFile) -> Mapping[str, Literals]:
    """The literals in what a file of variables assigns. Raises TooComplexError."""
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
