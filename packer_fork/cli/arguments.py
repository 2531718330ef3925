"""The options of ``build``, ``plan`` and ``inputs``, and the fast parser of their command lines.

Each field of a Struct is an option; `config.flag` names its flag. ``program`` makes Typer's
signatures from the same fields. Importing Typer takes longer than deciding that a build is up
to date, so `parse` reads the usual command lines itself and leaves all others to Typer.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints

from msgspec import Struct, structs

from packer_fork import config


class Help(NamedTuple):
    """How ``--help`` shows an argument or option."""

    text: str
    metavar: str | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """As Typer takes it."""
        return {"help": self.text, "metavar": self.metavar}


TEMPLATE = Help("The template file or directory.", "TEMPLATE")
WORKSPACE = Help("Use this variant of the state [default: default].", "NAME")
STATE = Help("Keep states there [default: beside TEMPLATE].", "DIR|URL")
JSON = Help("Print JSON.")

MaxAge = Annotated[
    str | None, Help("Rebuild what is older, e.g. 12h or 7d [default: 30d].", "TIME")
]


class StateOptions(Struct, frozen=True, kw_only=True):
    """Which state a command is about."""

    template: Annotated[str, TEMPLATE]
    workspace: Annotated[str | None, WORKSPACE] = None
    state: Annotated[str | None, STATE] = None


class InputOptions(StateOptions, frozen=True, kw_only=True):
    """What counts as an input of a build, besides what the template names."""

    inputs: Annotated[list[str] | None, Help("Count these files as well. Repeatable.", "GLOB")] = (
        None
    )
    input_env: Annotated[
        list[str] | None, Help("Count this environment variable. Repeatable.", "NAME")
    ] = None
    input_commands: Annotated[
        list[str] | None, Help("Count the output of this command. Repeatable.", "CMD")
    ] = None
    ignore_vars: Annotated[
        list[str] | None, Help("Do not count this Packer variable. Repeatable.", "NAME")
    ] = None
    assume_unchanged: Annotated[
        list[str] | None, Help("Trust that data.X is unchanged. Repeatable.", "data.X")
    ] = None


class InputsOptions(InputOptions, frozen=True, kw_only=True):
    build: Annotated[str | None, Help("Show one build [default: all].", "NAME")] = None
    json: Annotated[bool, JSON] = False


class PlanOptions(InputOptions, frozen=True, kw_only=True):
    max_age: MaxAge = None
    detailed_exitcode: Annotated[bool, Help("Exit 20 if there is something to build.")] = False
    json: Annotated[bool, JSON] = False


class BuildOptions(InputOptions, frozen=True, kw_only=True):
    max_age: MaxAge = None
    lock_timeout: Annotated[
        str | None, Help("Wait this long for the lock, e.g. 30m [default: 0s].", "TIME")
    ] = None
    rebuild: Annotated[bool, Help("Rebuild everything, even if up to date.")] = False
    retries: Annotated[int | None, Help("Build failed sources N more times [default: 0].", "N")] = (
        None
    )
    fail_fast: Annotated[bool | None, Help("Cancel the other builds when one fails.")] = None
    isolate: Annotated[bool | None, Help("Run one Packer process per source.")] = None
    share: Annotated[bool, Help("Share the run with other machines.")] = False
    max_sources: Annotated[
        int | None, Help("With --share: build N sources here at a time [default: 1].", "N")
    ] = None
    no_wait: Annotated[bool, Help("With --share: exit when no source is left to claim.")] = False
    cancel_all: Annotated[
        bool, Help("With --share: cancel the run on all machines if cancelled here.")
    ] = False
    verbose: Annotated[bool, Help("Show all of Packer's output on a terminal.")] = False
    quiet: Annotated[bool, Help("Show only problems and results.")] = False
    json: Annotated[bool, Help("Print events as JSON, one per line.")] = False


_SWITCHES = (bool, bool | None)


class Parameter(NamedTuple):
    """One field. ``flag`` is empty for the positional argument."""

    name: str
    flag: str
    help: Help
    kind: Any
    default: Any

    @property
    def is_switch(self) -> bool:
        return self.kind in _SWITCHES


@cache
def parameters(kind: type[StateOptions]) -> tuple[Parameter, ...]:
    return tuple(_parameters(kind))


def _parameters(kind: type[StateOptions]) -> Iterator[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    defaults = structs.asdict(kind(template=""))
    for name in kind.__struct_fields__:
        of_field, text = get_args(hints[name])
        flag = "" if name == "template" else config.flag(name)
        yield Parameter(name, flag, text, of_field, defaults[name])


def value_flags(kind: type[StateOptions]) -> frozenset[str]:
    """The flags that take a value."""
    return frozenset(each.flag for each in parameters(kind) if each.flag and not each.is_switch)


def settings(options: StateOptions) -> dict[str, Any]:
    """The options that set a setting; None means not given."""
    given = structs.asdict(options)
    return {name: given[name] for name in given if name in config.Settings.__struct_fields__}


_Options = TypeVar("_Options", bound=StateOptions)


def parse(kind: type[_Options], words: Sequence[str]) -> _Options | None:
    """The options in `words`; None where Typer has to decide, as for ``--help`` or an error."""
    by_flag = {each.flag: each for each in parameters(kind)}
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("-") else ("", "=", word)
        parameter = by_flag.get(name)
        if parameter is None:
            return None
        if not parameter.is_switch:
            value = value if equals else next(rest, "-")
        elif equals:
            return None
        if not _add(found, parameter, value):
            return None
    return kind(**found) if "template" in found else None


def _add(found: dict[str, Any], parameter: Parameter, text: str) -> bool:
    """Add the value of a parameter to `found`; False if `text` needs a closer look."""
    name, kind = parameter.name, parameter.kind
    if text.startswith("-") or (name == "template" and name in found):
        return False
    if parameter.is_switch:
        found[name] = True
    elif kind == list[str] | None:
        found.setdefault(name, []).append(text)
    elif kind == int | None:
        if not (text.isascii() and text.isdigit()):
            return False
        found[name] = int(text)
    else:
        found[name] = text
    return True
