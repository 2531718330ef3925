"""Which values of a template are secret, so that they can be hidden.

Names come from the template: ``sensitive = true`` of HCL2, ``sensitive-variables`` of
legacy JSON. Their values come from where they stand plainly (defaults, ``-var``,
``PKR_VAR_``, variables files) and from Packer's evaluator; the union of both is
hidden, so that neither a broken template nor a computed value lets one through.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packer_fork.errors import TemplateError
from packer_fork.grammar import MAX_SOURCE, TooComplexError
from packer_fork.packer import literals
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.literals import Declaration
from packer_fork.packer.mask import MIN_LENGTH, Sensitive
from packer_fork.packer.program import Program

_ENVIRONMENT = "PKR_VAR_"
_NO_SECRETS = frozenset(("true", "false", "null"))
_LEGACY_ENV = re.compile(r"""\{\{-?\s*env\s+[`"]([^`"]+)[`"]\s*-?\}\}""")
_IDENTIFIER = re.compile(r"(?:var|local)\.[^\W\d][\w-]*")

Values = dict[str, tuple[str, ...]]
"""By name: every string and number in the value. What is unknown is missing."""


def standing_plainly(
    template: str, flags: PackerFlags, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Secrets of `template` that are known without asking Packer. Raises TemplateError."""
    plain, _ = _read_plainly(template, flags, environ)
    return _summed_up(plain, {}).values


def among(
    told: Mapping[str, object], template: str, flags: PackerFlags, environ: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Secrets of `template` of which Packer `told` the values, by expression, and those that
    stand plainly. None if the value of one is not known. Raises TemplateError.
    """
    plain, asked = _read_plainly(template, flags, environ)
    evaluated = {
        name: tuple(literals.leaves(told[spelt]))
        for name, source in asked.items()
        for spelt in (source, source.replace('"', "`"))  # JSON templates have two quotes
        if spelt in told
    }
    found = _summed_up(plain, evaluated)
    return None if found.unknown else found.values


def collect(
    program: Program, template: str, flags: PackerFlags, environ: Mapping[str, str]
) -> Sensitive:
    """The secrets of `template` with these variables.

    Packer is asked only if there are any. Raises TemplateError for a file that is too
    large to be read; what else is wrong with a template is Packer's to tell.
    """
    plain, asked = _read_plainly(template, flags, environ)
    told = Evaluator(program, template, flags, environ)(asked) if asked else {}
    evaluated = {name: tuple(literals.leaves(value)) for name, value in (told or {}).items()}
    return _summed_up(plain, evaluated)


def _read_plainly(
    template: str, flags: PackerFlags, environ: Mapping[str, str]
) -> tuple[Values, dict[str, str]]:
    try:
        return _plain(Path(template), flags, environ)
    except TooComplexError as error:
        raise TemplateError(
            f"{template} or its variables are too complex to be searched for secrets.",
            hint="Is a text in it without an end? `packer validate` tells.",
        ) from error


def _plain(
    path: Path, flags: PackerFlags, environ: Mapping[str, str]
) -> tuple[Values, dict[str, str]]:
    """What stands plainly of each secret, and the expressions to ask Packer for."""
    if _is_hcl(path):
        plain = _of_hcl(path, flags, environ)
        return plain, {name: name for name in plain if _IDENTIFIER.fullmatch(name)}
    plain = _of_legacy(path, flags, environ)
    return plain, {name: f"user {json.dumps(name, ensure_ascii=False)}" for name in plain}


def _is_hcl(path: Path) -> bool:
    return path.is_dir() or path.name.endswith((".pkr.hcl", ".pkr.json"))


def _summed_up(plain: Values, evaluated: Values) -> Sensitive:
    effective = plain | evaluated
    short = {
        name for name, values in effective.items() if any(0 < len(v) < MIN_LENGTH for v in values)
    }
    every = {value for known in (plain, evaluated) for values in known.values() for value in values}
    return Sensitive(
        values=tuple(sorted(_maskable(every), key=lambda value: (-len(value), value))),
        too_short=tuple(sorted(_bare(name) for name in short)),
        unknown=tuple(
            sorted(_bare(name) for name in plain if name not in evaluated and not plain[name])
        ),
    )


def _bare(name: str) -> str:
    return name.removeprefix("var.").removeprefix("local.")


def _maskable(values: Iterable[str]) -> set[str]:
    """The values themselves and, as output comes by lines, each line of them."""
    shapes = {shape for value in values for shape in (value, *map(str.strip, value.splitlines()))}
    return {shape for shape in shapes if len(shape.strip()) >= MIN_LENGTH} - _NO_SECRETS


def _of_hcl(path: Path, flags: PackerFlags, environ: Mapping[str, str]) -> Values:
    """By ``var.x`` or ``local.y``: what stands plainly of each sensitive one."""
    files = _named(path, ".pkr.hcl", ".pkr.json") if path.is_dir() else [path]
    declared = [each for file in files for each in _declarations(file, environ)]
    secret = {f"{each.kind}.{each.name}" for each in declared if each.sensitive}
    if not secret:
        return {}
    given = [(f"{each.kind}.{each.name}", each.values) for each in declared]
    given += [(f"var.{name}", values) for name, values in _assigned(path, flags, environ)]
    return {
        name: tuple(dict.fromkeys(v for key, values in given if key == name for v in values if v))
        for name in sorted(secret)
    }


def _declarations(file: Path, environ: Mapping[str, str]) -> Iterator[Declaration]:
    source = _read(file)
    if file.name.endswith(".json"):
        return literals.declarations_in_json(source)
    return literals.declarations_in_hcl(source, environ)


def _assigned(
    path: Path, flags: PackerFlags, environ: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every value given to a variable, in Packer's order of precedence."""
    for name, value in environ.items():
        if name.startswith(_ENVIRONMENT):
            yield name.removeprefix(_ENVIRONMENT), _as_given(value, environ)
    if path.is_dir():
        for file in _named(path, ".auto.pkrvars.hcl", ".auto.pkrvars.json"):
            yield from _variables_file(file, environ)
    for flag in flags.variables:
        value = flag.value or ""
        if flag.name == "var-file":
            yield from _variables_file(Path(value), environ)
        else:
            name, _, text = value.partition("=")
            yield name, _as_given(text, environ)


def _as_given(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Both as the string that it is and as the expression that it may be: its type decides."""
    source = f"value = {text}".encode("utf-8", "surrogateescape")
    return (text, *literals.assignments_in_hcl(source, environ).get("value", ()))


def _variables_file(
    file: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    source = _read(file)
    if not file.name.endswith(".json"):
        yield from literals.assignments_in_hcl(source, environ).items()
    for name, value in _mapping(literals.parse_json(source)).items():
        yield name, tuple(literals.leaves(value))


def _of_legacy(path: Path, flags: PackerFlags, environ: Mapping[str, str]) -> Values:
    """By name: what stands plainly of each sensitive user variable of a JSON template."""
    root = _mapping(literals.parse_json(_read(path)))
    names = root.get("sensitive-variables")
    secret = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    if not secret:
        return {}
    given = [
        (name, _default(value, environ)) for name, value in _mapping(root.get("variables")).items()
    ]
    given += list(_assigned(path, flags, {}))
    return {
        name: tuple(dict.fromkeys(v for key, values in given if key == name for v in values if v))
        for name in secret
    }


def _default(value: object, environ: Mapping[str, str]) -> tuple[str, ...]:
    if not isinstance(value, str):
        return ()
    called = _LEGACY_ENV.fullmatch(value)
    if called:
        return (environ.get(called[1], ""),)
    return () if "{{" in value else (value,)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _named(folder: Path, *endings: str) -> list[Path]:
    try:
        named = (path for path in folder.iterdir() if path.name.endswith(endings))
        return sorted(path for path in named if not path.is_dir())
    except OSError:
        return []


def _read(path: Path) -> bytes:
    """The bytes of a regular file, none if there is no such: reading a pipe would empty it."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return b""
        if found.st_size > MAX_SOURCE:
            raise TemplateError(
                f"{path} is larger than {MAX_SOURCE >> 20} MiB: it cannot be searched for secrets.",
                hint="Is it the right file? Large data is better read by file() at build time.",
            )
        return path.read_bytes()
    except OSError:
        return b""
