"""``--help``: every command shows how people type it, and nothing is wider than a terminal."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import typer.main

from packer_fork.cli import examples
from packer_fork.cli.app import made
from packer_fork.cli.build import take_packer_flags
from packer_fork.cli.completing import packer_flags

_LINE = re.compile(r"packer-fork [^>|)]+")
"""What of an example is for packer-fork, and not for the shell."""


def commands() -> Mapping[str, Any]:
    """Commands and groups by their words, the program itself by ""."""
    program = typer.main.get_command(made())
    return {"": program, **dict(_below(program, ""))}


def _below(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        words = f"{path} {name}".strip()
        yield words, command
        yield from _below(command, words)


def test_every_command_has_an_example_and_no_other() -> None:
    assert examples.EXAMPLES.keys() == commands().keys()
    assert all(examples.EXAMPLES.values())


@pytest.mark.parametrize("path", examples.EXAMPLES)
def test_an_example_is_a_command_line(path: str) -> None:
    known = commands()
    for example in examples.EXAMPLES[path]:
        found = _LINE.search(example)
        assert found, example
        _, *words = shlex.split(found[0])
        name = max((n for n in known if words[: len(n.split())] == n.split()), key=len)
        assert f"{name} ".startswith(f"{path} ".lstrip()), example
        rest = words[len(name.split()) :]
        if name in packer_flags.COMMANDS:
            _, rest = take_packer_flags(rest)
        known[name].make_context(name, rest).close()


@pytest.mark.parametrize("path", examples.EXAMPLES)
def test_help_fits_a_terminal_and_ends_with_examples(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = commands()[path]
    with command.make_context(path, [], resilient_parsing=True) as context:
        lines = command.get_help(context).splitlines()
    assert max(map(len, lines)) <= 80
    at = lines.index("  Examples:")
    assert lines[at + 1 :] == [f"    {each}" for each in examples.EXAMPLES[path]]
