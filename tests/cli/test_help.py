"""``--help``: every command shows how people type it, and nothing is wider than a terminal."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import pytest

from packer_fork.cli import arguments, examples, program
from packer_fork.cli.commands import OPTIONS, options
from packer_fork.packer import flags

_LINE = re.compile(r"packer-fork [^>|)]+")
"""What of an example is for packer-fork, and not for the shell."""


def commands() -> Mapping[str, Any]:
    """Commands and groups by their words, the program itself by ""."""
    return {"": program.command(""), **dict(program.every())}


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
        if name in OPTIONS:
            _, rest = flags.take(rest, arguments.value_flags(options(name)))
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
