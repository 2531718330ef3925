"""Packer's own flags in a command line, told from ours. No I/O.

The rules are those of Go's ``flag`` package, which Packer uses: one dash or two,
``-name=value`` or ``-name value``, a boolean's value only after ``=``. Other than
Packer, which stops at the first plain argument, we take flags behind it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice

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
        if self.name in _REPEATED:
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
        return _flatten(flag for flag in self._all if flag.name in _OF_VALIDATE)

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
    return argument in value_options or (name in _WITH_VALUE and not equals)


def _read(argv: Sequence[str], value_options: Collection[str] = ()) -> Iterator[Flag | str]:
    """The flags of Packer in `argv`, everything else as it is; a missing value is None."""
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = _name(argument)
        if name in _WITH_VALUE:
            yield Flag(name, value if equals else next(arguments, None))
        elif name in _BOOLEAN:
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
    if flag.name in _BOOLEAN:
        _check_boolean(flag)
    elif flag.value is None:
        raise UsageError(f"-{flag.name} needs a value.", hint=f"Write -{flag.name}=VALUE.")
    else:
        _WITH_VALUE[flag.name](flag.name, flag.value)


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


_WITH_VALUE: dict[str, Callable[[str, str], None]] = {
    "var": _check_variable,
    "var-file": _anything,
    "only": _anything,
    "except": _anything,
    "on-error": _check_on_error,
    "parallel-builds": _check_number,
}
_REPEATED = frozenset(("var", "var-file"))
_OF_VALIDATE = frozenset(
    ("var", "var-file", "only", "except", "ignore-prerelease-plugins", "use-sequential-evaluation")
)
_BOOLEAN = frozenset(
    (
        "force",
        "color",
        "timestamp-ui",
        "warn-on-undeclared-var",
        "ignore-prerelease-plugins",
        "use-sequential-evaluation",
        "skip-enforcement",
        "machine-readable",
        "debug",
    )
)


def _flatten(flags: Iterable[Flag]) -> tuple[str, ...]:
    return tuple(argument for flag in flags for argument in flag.as_arguments())


def _without_values(extra: tuple[str, ...]) -> tuple[str, ...]:
    parts = _read(extra)
    hidden = (
        part.without_value().as_arguments() if isinstance(part, Flag) else (part,) for part in parts
    )
    return tuple(argument for arguments in hidden for argument in arguments)
