"""Which values of a template are secret, so that they can be hidden.

Names come from the template: ``sensitive = true`` of HCL2, ``sensitive-variables`` of
legacy JSON. Their values come from where they stand plainly (defaults, ``-var``,
``PKR_VAR_``, variables files) and from Packer's evaluator; the union of both is
hidden, so that neither a broken template nor a computed value lets one through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from packer_fork.errors import TemplateError
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.mask import MIN_LENGTH, Sensitive
from packer_fork.packer.program import Program
from packer_fork.template import hcl, reader
from packer_fork.template.contents import Secret
from packer_fork.template.grammar import TooComplexError
from packer_fork.template.json_document import leaves
from packer_fork.template.reader import ParsedTemplate

_ENVIRONMENT = "PKR_VAR_"
_NO_SECRETS = frozenset(("true", "false", "null"))

Values = Mapping[Secret, tuple[str, ...]]
"""Every string and number in the value. What is unknown is missing."""


def standing_plainly(
    template: ParsedTemplate, flags: PackerFlags, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Secrets of `template` that are known without asking Packer. Raises TemplateError."""
    return _summed_up(_plain(template, flags, environ), {}).values


def among(
    told: Mapping[str, object],
    template: ParsedTemplate,
    flags: PackerFlags,
    environ: Mapping[str, str],
) -> tuple[str, ...] | None:
    """Secrets of `template` of which Packer `told` the values, by expression, and those that
    stand plainly, unless they are too short. None if one is not known. Raises TemplateError.
    """
    plain = _plain(template, flags, environ)
    known = (secret for secret in plain if secret.expression in told)
    evaluated = {secret: tuple(leaves(told[secret.expression])) for secret in known}
    found = _summed_up(plain, evaluated)
    long = tuple(value for value in found.values if len(value.strip()) >= MIN_LENGTH)
    return None if found.unknown else long


def collect(
    program: Program,
    template: ParsedTemplate,
    flags: PackerFlags,
    environ: Mapping[str, str],
    told: Mapping[str, object] = {},
) -> Sensitive:
    """The secrets of `template` with these variables.

    Packer is asked only for those that it has not `told`, by expression. Raises TemplateError for
    a text that is too complex to be read; what else is wrong with a template is Packer's to tell.
    """
    plain = _plain(template, flags, environ)
    expressions = (secret.expression for secret in plain)
    asked = {each: each for each in expressions if each and each not in told}
    if asked:
        told = {**told, **(Evaluator(program, template.given, flags, environ)(asked) or {})}
    known = (secret for secret in plain if secret.expression in told)
    evaluated = {secret: tuple(leaves(told[secret.expression])) for secret in known}
    return _summed_up(plain, evaluated)


def _plain(template: ParsedTemplate, flags: PackerFlags, environ: Mapping[str, str]) -> Values:
    """What stands plainly of each secret."""
    secrets = template.contents.secrets
    too_complex = TemplateError(
        f"{template.given} or its variables are too complex to be searched for secrets.",
        hint="Is a text in it without an end? `packer validate` tells.",
    )
    if template.contents.is_too_complex:
        raise too_complex
    try:
        given = list(_assigned(template, flags, environ)) if secrets else []
    except TooComplexError as error:
        raise too_complex from error
    return {
        secret: tuple(dict.fromkeys(filter(None, _values(secret, given, environ))))
        for secret in secrets
    }


def _values(
    secret: Secret, given: Iterable[tuple[str, tuple[str, ...]]], environ: Mapping[str, str]
) -> Iterator[str]:
    yield from secret.literals.values(environ)
    for name, values in given:
        if secret.is_assignable and name == secret.name:
            yield from values


def _assigned(
    template: ParsedTemplate, flags: PackerFlags, environ: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every value given to a variable. Raises TooComplexError."""
    environ = environ if template.is_hcl else {}
    for name, value in environ.items():
        if name.startswith(_ENVIRONMENT):
            yield name.removeprefix(_ENVIRONMENT), _as_given(value, environ)
    for file in template.variable_files:
        for name, literals in reader.assignments(file).items():
            yield name, literals.values(environ)
    for flag in flags.variables:
        if flag.name == "var":
            name, _, text = (flag.value or "").partition("=")
            yield name, _as_given(text, environ)


def _as_given(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Both as the string that it is and as the expression that it may be: its type decides."""
    source = f"value = {text}".encode("utf-8", "surrogateescape")
    assigned = hcl.assignments(source).get("value")
    return (text, *(assigned.values(environ) if assigned else ()))


def _summed_up(plain: Values, evaluated: Values) -> Sensitive:
    effective = {**plain, **evaluated}
    short = {
        secret.name
        for secret, values in effective.items()
        if any(0 < len(value) < MIN_LENGTH for value in values)
    }
    unknown = {each.name for each in plain if each not in evaluated and not plain[each]}
    every = {value for known in (plain, evaluated) for values in known.values() for value in values}
    return Sensitive(
        values=tuple(sorted(_shapes(every), key=lambda value: (-len(value), value))),
        too_short=tuple(sorted(short)),
        unknown=tuple(sorted(unknown)),
    )


def _shapes(values: Iterable[str]) -> set[str]:
    """The values themselves and, as output comes by lines, each line of them."""
    shapes = {
        shape for value in values for line in value.splitlines() for shape in (line, line.strip())
    }
    return {*values, *shapes} - _NO_SECRETS - {""}
