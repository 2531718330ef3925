"""Packer's own flags in a command line, told from ours. No I/O.

The rules are those of Go's ``flag`` package, which Packer uses: one dash or two,
``-name=value`` or ``-name value``, a boolean's value only after ``=``. Other than
Packer, which stops at the first plain argument, we take flags behind it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from msgspec import Struct

from packer_fork.errors import UsageError

HIDDEN = "***"

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
ON_ERROR = ("cleanup", "abort", "ask", "run-cleanup-provisioner")


class Flag(Struct, frozen=True):
    """One flag as given; ``value`` is None for a boolean without one."""

    name: str
    value: str | None = None

    def as_arguments(self) -> tuple[str, ...]:
        if self.value is None:
            return (f"-{self.name}",)
        if FLAGS[self.name].repeats:
            return (f"-{self.name}", self.value)
        return (f"-{self.name}={self.value}",)

    def without_value(self) -> Flag:
        if self.name != "var" or self.value is None:
            return self
        return Flag(self.name, f"{self.value.partition('=')[0]}={HIDDEN}")


class PackerFlags(Struct, frozen=True):
    """All flags for Packer, in their order; ``extra`` is what stood after ``--``."""

    given: tuple[Flag, ...] = ()
    extra: tuple[str, ...] = ()

    def as_arguments(self) -> tuple[str, ...]:
        """For Packer: everything but ``-machine-readable``, which `program.build_command` sets."""
        ours = (flag for flag in self.given if flag.name != "machine-readable")
        return (*_flatten(ours), *self.extra)

    def without_values(self) -> tuple[str, ...]:
        """For records: as `as_arguments`, the values of variables hidden."""
        flags = (flag.without_value() for flag in self.given if flag.name != "machine-readable")
        return (*_flatten(flags), *_without_values(self.extra))

    @property
    def variables(self) -> tuple[Flag, ...]:
        """Every ``-var`` and ``-var-file`` in order, also those after ``--``."""
        return tuple(flag for flag in self._all if flag.name in ("var", "var-file"))

    @property
    def variable_files(self) -> tuple[str, ...]:
        return tuple(flag.value or "" for flag in self._all if flag.name == "var-file")

    def variable_arguments(self) -> tuple[str, ...]:
        return _flatten(self.variables)

    def validate_arguments(self) -> tuple[str, ...] | None:
        """Those of them that ``packer validate`` has as well; None if we do not know them all."""
        if not all(isinstance(part, Flag) for part in _read(self.extra)):
            return None
        return _flatten(flag for flag in self._all if FLAGS[flag.name].is_for_validate)

    def with_only(self, patterns: Sequence[str]) -> PackerFlags:
        """These flags, building only what `patterns` choose instead of what they chose."""
        kept = tuple(flag for flag in self.given if flag.name != "only")
        return PackerFlags((*kept, Flag("only", ",".join(patterns))), self.extra)

    @property
    def only(self) -> tuple[str, ...]:
        return self._list("only")

    @property
    def except_(self) -> tuple[str, ...]:
        return self._list("except")

    @property
    def bearing_on_results(self) -> tuple[str, ...]:
        """What can change a build itself: other plugins, or post-processors left out."""
        excepted = tuple(f"except {name}" for name in sorted(set(self.except_)))
        prerelease = self._boolean("ignore-prerelease-plugins", unset=False)
        return ("ignore-prerelease-plugins", *excepted) if prerelease else excepted

    @property
    def parallel_builds(self) -> int:
        """How many builds at once, 0 for any number."""
        return max(0, int(next(reversed(self._values("parallel-builds")), "0"), 0))

    @property
    def force(self) -> bool:
        return self._boolean("force", unset=False)

    @property
    def color(self) -> bool:
        return self._boolean("color", unset=True)

    @property
    def debug(self) -> bool:
        return self._boolean("debug", unset=False)

    @property
    def machine_readable(self) -> bool:
        return self._boolean("machine-readable", unset=False)

    @property
    def on_error(self) -> str:
        return next((value for value in reversed(self._values("on-error"))), "cleanup")

    @property
    def _all(self) -> tuple[Flag, ...]:
        return (*self.given, *(part for part in _read(self.extra) if isinstance(part, Flag)))

    def _values(self, name: str) -> list[str]:
        return [flag.value or "" for flag in self._all if flag.name == name]

    def _list(self, name: str) -> tuple[str, ...]:
        return tuple(part for value in self._values(name) for part in value.split(","))

    def _boolean(self, name: str, *, unset: bool) -> bool:
        values = [flag.value for flag in self._all if flag.name == name]
        return (values[-1] is None or values[-1] in _TRUE) if values else unset


def take(argv: Sequence[str], value_options: Collection[str] = ()) -> tuple[PackerFlags, list[str]]:
    """Packer's flags, and the rest for our own parser, in its order.

    `value_options` are our options that take a value (``--workspace``): what follows
    one of them is never looked at. Raises UsageError for a missing or invalid value.
    """
    ours, extra = _split(argv, value_options)
    parts = list(_read(ours, value_options))
    flags = tuple(part for part in parts if isinstance(part, Flag))
    for flag in flags:
        _check(flag)
    return PackerFlags(flags, extra), [part for part in parts if isinstance(part, str)]


def _split(
    argv: Sequence[str], value_options: Collection[str]
) -> tuple[Sequence[str], tuple[str, ...]]:
    """What stands before and after the first ``--`` that is not itself a value."""
    index = 0
    while index < len(argv) and argv[index] != "--":
        index += 2 if _takes_next(argv[index], value_options) else 1
    return argv[:index], tuple(argv[index + 1 :])


def _takes_next(argument: str, value_options: Collection[str]) -> bool:
    name, equals, _ = _name(argument)
    return argument in value_options or (_takes_value(name) and not equals)


def _read(argv: Sequence[str], value_options: Collection[str] = ()) -> Iterator[Flag | str]:
    """The flags of Packer in `argv`, everything else as it is; a missing value is None."""
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = _name(argument)
        if _takes_value(name):
            yield Flag(name, value if equals else next(arguments, None))
        elif name in FLAGS:
            yield Flag(name, value if equals else None)
        else:
            yield argument
            if argument in value_options:
                yield from islice(arguments, 1)


def _name(argument: str) -> tuple[str, str, str]:
    """``-name=value`` or ``--name=value`` in its parts; the name is empty for anything else."""
    if not argument.startswith("-"):
        return "", "", ""
    return argument[2 if argument.startswith("--") else 1 :].partition("=")


def _check(flag: Flag) -> None:
    check = FLAGS[flag.name].check
    if check is None:
        _check_boolean(flag)
    elif flag.value is None:
        raise UsageError(f"-{flag.name} needs a value.", hint=f"Write -{flag.name}=VALUE.")
    else:
        check(flag.name, flag.value)


def _check_boolean(flag: Flag) -> None:
    if flag.value is not None and flag.value not in _TRUE | _FALSE:
        raise UsageError(
            f"-{flag.name}={flag.value}: neither true nor false.",
            hint=f"Write -{flag.name} or -{flag.name}=false.",
        )


def _check_variable(name: str, value: str) -> None:
    if "=" not in value:
        raise UsageError(f"-{name} {value}: has no value.", hint="Write -var 'NAME=VALUE'.")


def _check_number(name: str, value: str) -> None:
    try:
        int(value, 0)
    except ValueError:
        raise UsageError(
            f"-{name}={value}: not a whole number.", hint=f"Write for example -{name}=2."
        ) from None


def _check_on_error(name: str, value: str) -> None:
    if value not in ON_ERROR:
        choices = ", ".join(ON_ERROR)
        raise UsageError(f"-{name}={value}: no such choice.", hint=f"Choose one of {choices}.")


def _anything(_name: str, _value: str) -> None:
    """Packer itself judges it."""


class FlagKind(NamedTuple):
    """A flag that Packer has. ``check`` judges its value; a boolean has none.

    ``repeats``: each one counts, not the last alone. ``is_list``: its value may hold commas.
    ``is_for_validate``: ``packer validate`` has it as well.
    """

    about: str
    check: Callable[[str, str], None] | None = None
    repeats: bool = False
    is_list: bool = False
    is_for_validate: bool = False


FLAGS: Mapping[str, FlagKind] = {
    "only": FlagKind("Build these alone.", _anything, is_list=True, is_for_validate=True),
    "except": FlagKind("Build all but these.", _anything, is_list=True, is_for_validate=True),
    "var": FlagKind(
        "NAME=VALUE: set a variable.", _check_variable, repeats=True, is_for_validate=True
    ),
    "var-file": FlagKind(
        "A file that sets variables.", _anything, repeats=True, is_for_validate=True
    ),
    "on-error": FlagKind("What to do when a build fails.", _check_on_error),
    "parallel-builds": FlagKind("How many builds at a time; 0 for all.", _check_number),
    "force": FlagKind("Build even over artifacts that exist."),
    "debug": FlagKind("Pause after each step."),
    "color": FlagKind("Colour, unless it is =false."),
    "timestamp-ui": FlagKind("A time in front of each line."),
    "machine-readable": FlagKind("Print Packer's machine-readable lines."),
    "warn-on-undeclared-var": FlagKind("Warn of values for undeclared variables."),
    "ignore-prerelease-plugins": FlagKind("Use no pre-release plugins.", is_for_validate=True),
    "use-sequential-evaluation": FlagKind(
        "Evaluate locals and data sources one by one.", is_for_validate=True
    ),
    "skip-enforcement": FlagKind("Do not enforce HCP Packer's provisioners."),
}


def _takes_value(name: str) -> bool:
    return name in FLAGS and FLAGS[name].check is not None


def _flatten(flags: Iterable[Flag]) -> tuple[str, ...]:
    return tuple(argument for flag in flags for argument in flag.as_arguments())


def _without_values(extra: tuple[str, ...]) -> tuple[str, ...]:
    parts = _read(extra)
    hidden = (
        part.without_value().as_arguments() if isinstance(part, Flag) else (part,) for part in parts
    )
    return tuple(argument for arguments in hidden for argument in arguments)
