"""The files that Packer loads for a template, and what they say together."""

from __future__ import annotations

from pathlib import Path

from packer_fork.inputs import dependence
from packer_fork.inputs.mentions import Parsed

_TEMPLATES = (".pkr.hcl", ".pkr.json")
_VARIABLES = (".auto.pkrvars.hcl", ".auto.pkrvars.json")


def is_legacy(template: Path) -> bool:
    """Whether `template` is in the older JSON language."""
    return not template.is_dir() and not template.name.endswith((".hcl", ".pkr.json"))


def template_files(template: Path) -> list[Path]:
    """Of a folder all templates directly in it, of a file that file alone."""
    return _directly_in(template, _TEMPLATES) if template.is_dir() else [template]


def automatic_variable_files(template: Path) -> list[Path]:
    return _directly_in(template, _VARIABLES) if template.is_dir() else []


def _directly_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    named = (path for path in folder.iterdir() if path.name.endswith(suffixes))
    return sorted(path for path in named if not path.is_dir())


def parse(path: Path) -> Parsed:
    """What one file says. Raises OSError if it cannot be read."""
    from packer_fork.inputs import hcl, hcl_json, legacy

    source, file = path.read_bytes(), str(path)
    if path.name.endswith(".pkr.json"):
        return hcl_json.parse(source, file)
    return legacy.parse(source) if is_legacy(path) else hcl.parse(source, file)


def together(files: list[Parsed]) -> Parsed:
    """Several files of one folder as one."""
    return Parsed(
        mentions=tuple(mention for file in files for mention in file.mentions),
        variables={name: source for file in files for name, source in file.variables.items()},
        definitions={name: parts for file in files for name, parts in file.definitions.items()},
        unstable=frozenset().union(*(file.unstable for file in files)),
        locals=tuple(local for file in files for local in file.locals),
        references=frozenset().union(*(file.references for file in files)),
        calls=frozenset().union(*(file.calls for file in files)),
        sources=tuple(source for file in files for source in file.sources),
        sections=dependence.together(file.sections for file in files),
        intelligible=all(file.intelligible for file in files),
    )
