"""The fast parser reads a command line exactly as Typer does, or leaves it to Typer."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer_fork import config
from packer_fork.cli import arguments, program
from packer_fork.cli.arguments import BuildOptions, StateOptions
from packer_fork.cli.commands import COMMANDS, OPTIONS, options
from packer_fork.errors import UsageError

USUAL = [
    ("build", "t.pkr.hcl"),
    ("plan", "--json", "images/"),
    ("inputs", "t.pkr.hcl", "--build", "null.a", "--json"),
    ("build", "--workspace=pr-7", "t", "--state", "etcd://a:1/b?c=d", "--retries", "03"),
    ("plan", "--input", "a", "t", "--input=b=c", "--max-age", "30d", "--max-age=7d"),
    ("build", "t", "--input", "", "--state=", "--fail-fast", "--fail-fast", "--isolate"),
    ("build", "t", "--share", "--max-sources", "4", "--no-wait", "--cancel-all", "--quiet"),
    ("build", "--rebuild", "--verbose", "", "--lock-timeout", "0"),
    ("plan", "t", "--detailed-exitcode", "--ignore-var", "x", "--input-command", "git x"),
    ("inputs", "t", "--input-env", "A", "--assume-unchanged", "data.x", "--input-env", "A"),
]

UNUSUAL = [
    ("build",),
    ("build", "a", "b"),
    ("build", "--help"),
    ("build", "t", "--workspce", "x"),
    ("build", "t", "--detailed-exitcode"),
    ("plan", "t", "--json=yes"),
    ("plan", "t", "--rebuild"),
    ("build", "t", "--retries", "x"),
    ("build", "t", "--retries", "-1"),
    ("build", "t", "--retries", "\N{SUPERSCRIPT TWO}"),
    ("build", "t", "--retries", "1_0"),
    ("build", "t", "--workspace"),
    ("build", "t", "--workspace", "--json"),
    ("build", "t", "--work", "x"),
    ("build", "-", "t"),
]


def read_by_typer(monkeypatch: pytest.MonkeyPatch, words: Sequence[str]) -> StateOptions:
    """Raises UsageError or SystemExit, as Typer refuses `words` or shows help."""
    found: list[StateOptions] = []

    def function(_path: str) -> Callable[[StateOptions, Any], None]:
        return lambda read, _flags: found.append(read)

    with monkeypatch.context() as patched:
        patched.setattr(program, "function", function)
        program.command.cache_clear()
        try:
            program.run(words, None)
        finally:
            program.command.cache_clear()
    if not found:
        raise SystemExit
    return found[0]


def read_fast(words: Sequence[str]) -> StateOptions | None:
    return arguments.parse(options(words[0]), words[1:])


@pytest.mark.parametrize("words", USUAL, ids=" ".join)
def test_a_usual_command_line_is_read_without_typer(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    found = read_fast(words)
    assert found is not None
    assert found == read_by_typer(monkeypatch, words)


@pytest.mark.parametrize("words", UNUSUAL, ids=" ".join)
def test_an_unusual_command_line_is_left_to_typer(words: tuple[str, ...]) -> None:
    assert read_fast(words) is None


VALUES = st.sampled_from(["t", "7", "0", "", "-1", "x=y", "--json", "a b", "\u0663", "7.0", "é"])


def words_of(path: str) -> st.SearchStrategy[list[str]]:
    flags = st.sampled_from([each.flag or "t" for each in arguments.parameters(options(path))])
    joined = st.builds("{}={}".format, flags, VALUES)
    apart = st.builds(lambda flag, value: [flag, value], flags, VALUES)
    pieces = st.one_of(apart, st.lists(st.one_of(flags, joined, VALUES), max_size=2))
    template = st.sampled_from([["t"], []])
    return st.lists(st.one_of(pieces, template), min_size=1, max_size=4).map(
        lambda found: [path, *(word for each in found for word in each)]
    )


@pytest.mark.parametrize("path", OPTIONS)
def test_both_parsers_agree_on_any_command_line(path: str) -> None:
    read = 0

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(words_of(path))
    def agree(words: list[str]) -> None:
        nonlocal read
        found = read_fast(words)
        if found is not None:
            read += 1
            with pytest.MonkeyPatch.context() as monkeypatch:
                assert found == read_by_typer(monkeypatch, words)

    agree()
    assert read > 20, "too few of these command lines are usual ones"


def test_typer_refuses_or_accepts_what_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []
    for words in UNUSUAL:
        try:
            read_by_typer(monkeypatch, words)
        except (UsageError, SystemExit):
            refused.append(words)
    assert [words for words in UNUSUAL if words not in refused] == [
        ("build", "t", "--retries", "-1"),
        ("build", "t", "--retries", "1_0"),
        ("build", "t", "--workspace", "--json"),
    ]


def test_options_that_set_a_setting_are_passed_on() -> None:
    found = arguments.settings(BuildOptions(template="t", retries=2, inputs=["a"], rebuild=True))
    assert {name: value for name, value in found.items() if value is not None} == {
        "retries": 2,
        "inputs": ["a"],
    }
    assert found.keys() <= set(config.Settings.__struct_fields__)


def test_only_commands_without_a_signature_have_options_in_the_table() -> None:
    assert OPTIONS.keys() <= COMMANDS.keys()
