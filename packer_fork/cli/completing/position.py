"""Where in a command line the cursor stands, and what is wanted there. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from packer_fork.packer.flags import FLAGS


class Candidate(NamedTuple):
    """A word that may stand there, and what it is, in a few words."""

    text: str
    about: str = ""


class Option(NamedTuple):
    """``value`` names what follows it, "" if nothing does."""

    names: tuple[str, ...]
    about: str
    value: str = ""
    repeats: bool = False
    joined: bool = False
    """Whether its value is best written behind a ``=``, as Packer's are."""


class Command(NamedTuple):
    """What may stand behind a command: sub-commands, or options and arguments by name."""

    commands: tuple[Candidate, ...] = ()
    options: tuple[Option, ...] = ()
    arguments: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """What the last word may become.

    ``kept`` is its beginning that stays as it is (``-only=a,``), ``text`` the rest, and
    ``value`` names what that is the beginning of; if it is "", there are ``words``.
    ``given`` has the values in the words before, by the same names.
    """

    command: str
    text: str
    kept: str = ""
    value: str = ""
    words: tuple[Candidate, ...] = ()
    given: Mapping[str, str] = {}


def find(path: str, command: Command, words: Sequence[str]) -> Wanted:
    """What is wanted in the place of the last of the words that follow the command at `path`."""
    *before, last = words
    by_name = {name: option for option in command.options for name in option.names}
    given: dict[str, str] = {}
    used: set[str] = set()
    arguments = iter(command.arguments)
    awaiting = ""
    for word in before:
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if awaiting:
            given[awaiting], awaiting = word, ""
        elif option is not None:
            used.add(name)
            if equals:
                given[option.value] = value
            else:
                awaiting = option.value
        elif not word.startswith("-"):
            given[next(arguments, "")] = word
    if awaiting:
        return _value(Wanted(path, last, value=awaiting, given=given))
    name, equals, value = last.partition("=")
    if equals and name in by_name and by_name[name].value:
        kept = f"{name}="
        return _value(Wanted(path, value, kept, by_name[name].value, given=given))
    if last.startswith("-"):
        left = [each for each in command.options if each.repeats or used.isdisjoint(each.names)]
        return Wanted(path, last, words=_names(left, last), given=given)
    if command.commands:
        return Wanted(path, last, words=command.commands)
    return Wanted(path, last, value=next(arguments, ""), given=given)


def _value(wanted: Wanted) -> Wanted:
    """Of a list only the last part is wanted."""
    kind = FLAGS.get(wanted.value.removeprefix("-")) if wanted.value.startswith("-") else None
    if kind is None or not kind.is_list or "," not in wanted.text:
        return wanted
    first, comma, text = wanted.text.rpartition(",")
    return wanted._replace(kept=f"{wanted.kept}{first}{comma}", text=text)


def _names(options: Sequence[Option], typed: str) -> tuple[Candidate, ...]:
    """Each option by one name; by its other one only if that is what was begun."""
    for number in (0, 1):
        found = [(each, each.names[number]) for each in options if len(each.names) > number]
        fitting = [(each, name) for each, name in found if name.startswith(typed)]
        if fitting:
            return tuple(
                Candidate(f"{name}=" if each.joined else name, each.about) for each, name in fitting
            )
    return ()
