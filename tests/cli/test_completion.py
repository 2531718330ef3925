"""What a TAB completes: in real shells, and all else that can be named, without one."""

import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import structs

from packer_fork.cli import completing
from packer_fork.cli.completing import commands, line, shells, values
from packer_fork.cli.completing.position import Candidate, Wanted
from packer_fork.cli.completing.values import FILES, VALUES, Files
from packer_fork.errors import PackerForkError
from packer_fork.model import (
    Actor,
    Build,
    BuildStatus,
    Git,
    Instance,
    PendingChange,
    Run,
    RunStatus,
)
from packer_fork.packer import flags
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local.store import LocalStore
from tests.conftest import Cli, Project
from tests.support.commands import commands as program_commands
from tests.support.completion import KINDS, opened
from tests.support.local_states import lock_of

HOSTILE = "null.my $(touch pwned) `touch pwned` 'a' \"b\":c=d@e"
NEVER_SHOWN = "null.red\x1b[31m\n"

ANYTHING = {
    *(
        "assume_unchanged",
        "ignore_vars",
        "input_commands",
        "keep_days",
        "keep_runs",
        "last",
        "limit",
    ),
    *("lock_timeout", "max_age", "max_sources", "page", "reason", "retries", "since", "until"),
    *("-var", "-parallel-builds"),
}
"""Values that nobody can know beforehand."""


class Here(NamedTuple):
    """A project with templates, and the held lock of the state of one of them."""

    store: LocalStore
    lock: HeldLock


def store_in(root: Path, template: str, workspace: str = "default") -> LocalStore:
    states = root / ".packer-fork"
    return LocalStore(
        states / template / workspace,
        root=states,
        template=template,
        workspace=workspace,
        complain=lambda _: None,
    )


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    for name in ("t.pkr.hcl", "prod.pkrvars.hcl", "my images/web.pkr.hcl", "my images/notes.txt"):
        project.write(name, "")
    monkeypatch.chdir(project.root)
    with lock_of(store_in(project.root, "t.pkr.hcl", "staging")) as lock:
        lock.commit(
            PendingChange(operation="test", builds={"null.staged": Build(name="null.staged")})
        )
    store = store_in(project.root, "t.pkr.hcl")
    with lock_of(store) as lock:
        lock.commit(_run_of_all(lock.participant.holder.by))
        yield Here(store, lock)


def _run_of_all(by: Actor) -> PendingChange:
    git = Git(commit="c0ffee", branch="topic")
    names = ("file.web", HOSTILE, NEVER_SHOWN)
    builds = {name: Build(name=name, status=BuildStatus.COMPLETE, run=7) for name in names}
    builds["file.web"] = structs.replace(builds["file.web"], leftovers=(Instance(id="i-0123"),))
    now = datetime.now(UTC)
    status = RunStatus.COMPLETE
    run = Run(number=7, token=1, started=now, by=by, status=status, git=git, builds=names)
    return PendingChange(operation="start", builds=builds, last_run=run)


NAMED = (
    ("forc", ["force-unlock"]),
    ("state rol", ["state", "rollback"]),
    ("build --worksp", ["build", "--workspace"]),
    ("build qqq", ["build", "qqq"]),
)
"""What no shell has to quote, which is asked in one of them."""

QUOTED = (
    ("build -onl", ["build", "-only="]),
    ("build -only=file.web,null.m", ["build", f"-only=file.web,{HOSTILE}"]),
    ("state rm --build null.m", ["state", "rm", "--build", HOSTILE]),
    ("state rm --build 'null.m", ["state", "rm", "--build", HOSTILE]),
    ("build -var-file=pr", ["build", "-var-file=prod.pkrvars.hcl"]),
    ("plan my\\ images/", ["plan", "my images/web.pkr.hcl"]),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tab_in_a_real_shell(cli: Cli, project: Project, here: Here, kind: str) -> None:
    shell = opened(cli, kind)
    for typed, words in (*QUOTED, *(NAMED if kind == "bash" else ())):
        assert shell.completed(typed) == words, typed
    assert shell.completed("force-unlock ") == ["force-unlock", here.lock.record.id]
    screen = shell.listed("artifacts t.pkr.hcl --build ", "file.web", "complete")
    assert "red" not in screen
    assert not (project.root / "pwned").exists()
    assert "Traceback" not in "\n".join(shell.terminal.everything())


def completed(*words: str) -> values.Offer:
    return values.of(commands.wanted(words))


def texts(*words: str) -> list[str]:
    return [each.text for each in completed(*words).candidates]


@pytest.mark.usefixtures("here")
def test_whatever_has_a_name_here_is_completed() -> None:
    known = ["file.web", HOSTILE]
    for words, expected in (
        (("build", "-only", ""), [*known, "null.staged"]),
        (("build", "t.pkr.hcl", "--workspace", "staging", "--only="), ["null.staged"]),
        (("state", "show", "t.pkr.hcl", "--build", ""), known),
        (("state", "rm", "t.pkr.hcl", "--workspace=staging", "--build="), ["null.staged"]),
        (("plan", "t.pkr.hcl", "--workspace", ""), ["default", "staging"]),
        (("logs", "--workspace", "st"), ["staging"]),
        (("logs", "--run", ""), ["7"]),
        (("state", "rm", "--instance", ""), ["i-0123"]),
        (("state", "runs", "--branch", ""), ["topic"]),
        (("state", "runs", "--status", "comp"), ["complete"]),
        (("state", "rollback", "t.pkr.hcl", ""), ["1", "run:7"]),
        (("state", "diff", "1", "run:"), ["run:7"]),
        (("state", "show", "--run", ""), ["7"]),
        (("build", "-on-error=a"), ["abort", "ask"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("-machine-readable", "buil"), ["build"]),
        (("vali",), ["validate"]),
        (("--vers",), ["--version"]),
        (("state", "--"), ["--help"]),
        (("build", "t.pkr.hcl", "--timestamp"), ["--timestamp-ui"]),
        (("build", "--json", "--js"), []),
        (("build", "--input", "a", "--input"), ["--input", "--input-env", "--input-command"]),
        (("build", "t.pkr.hcl", ""), []),
        (("build", "gone.pkr.hcl", "-only="), None),
        (("nothing", ""), None),
    ):
        if expected is None:
            with pytest.raises((PackerForkError, LookupError)):
                texts(*words)
        else:
            assert texts(*words) == expected, words


def test_backups_and_files(here: Here) -> None:
    made = here.lock.backup("test", keep=3)
    found = completed("state", "restore", "")
    assert [each.text for each in found.candidates] == ["1", "run:7", made.path]
    assert found.files == Files(("*",))
    for words, files in (
        (("build", ""), values.TEMPLATES),
        (("validate", ""), values.TEMPLATES),
        (("state", "diff", ""), values.TEMPLATES),
        (("build", "-var-file", ""), values.VARIABLES),
        (("state", "show", "--state", ""), ()),
        (("state", "migrate", "--to", ""), ()),
    ):
        assert completed(*words).files == Files(files), words


def test_a_lock_is_told_with_its_holder(here: Here) -> None:
    (found,) = completed("force-unlock", "").candidates
    assert found.text == here.lock.record.id
    assert found.about.startswith("held, t.pkr.hcl: ")


def test_a_damaged_state_keeps_no_other_from_being_told(project: Project, here: Here) -> None:
    for name in ("state.json", "journal"):
        for path in (project.root / ".packer-fork/t.pkr.hcl/staging").glob(f"{name}*"):
            path.write_bytes(b"{corrupted")
    assert texts("build", "-only=file") == ["file.web"]
    assert texts("logs", "--run", "") == ["7"]
    assert texts("force-unlock", "") == [here.lock.record.id]


def test_every_value_is_completed_or_cannot_be_known() -> None:
    wanted = {name for name, kind in flags.FLAGS.items() if kind.check}
    names = {f"-{name}" for name in wanted}
    for path, command in program_commands().items():
        for each in command.params:
            if not getattr(each, "is_flag", False):
                special = f"{path} {each.name}"
                names.add(special if special in {*VALUES, *FILES} else each.name)
    assert names == VALUES.keys() | FILES.keys() | ANYTHING
    assert not ANYTHING & (VALUES.keys() | FILES.keys())


def test_a_store_that_never_answers_holds_no_terminal_up(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"etcd://127.0.0.1:{server.getsockname()[1]}/x"
        env = {"PACKER_FORK_STATE": url, "PACKER_FORK_PROJECT": "p"}
        started = time.monotonic()
        result = cli("__complete", "zsh", "force-unlock", "", env=env)
        assert time.monotonic() - started < 10, "the store alone would be asked for longer"
    assert result == (0, "", "")


@pytest.mark.parametrize("request_", [(), ("tcsh", "x"), ("bash", "packer-fork 'a'b"), ("zsh",)])
def test_what_no_script_asks_is_not_answered(
    capfd: pytest.CaptureFixture[str], request_: tuple[str, ...]
) -> None:
    completing.answer(request_)
    assert capfd.readouterr() == ("", "")


BREAKS = " \t\n\"'@><=;|&(:"


def bash(
    typed: str, candidates: Mapping[str, str], kind: str = "\t", columns: int = 80
) -> list[str]:
    """What bash is answered where these are the candidates, with what they are."""
    request = shells.read(
        ("bash", f"packer-fork state rm --build {typed}", BREAKS, str(ord(kind)), str(columns))
    )
    kept, _, text = typed.rpartition(",")
    found = tuple(Candidate(name, about) for name, about in candidates.items())
    wanted = Wanted("state rm", text, kept and f"{kept},")
    return shells.write(request, wanted, values.Offer(found))


def test_bash_is_given_what_follows_the_last_break() -> None:
    assert bash("a:b", {"a:b c:d": ""}) == ["=b\\ c:d"]
    assert bash("a\\(b", {"a(b": ""}) == ["=a\\(b"]
    assert bash("x,a", {"a$b": ""}) == ["=x,a\\$b"]
    assert bash("'a:b", {"a:b'c": ""}) == ["=a:b'\\''c"]
    assert bash('"a', {'a$"`\\b': ""}) == ['=a\\$\\"\\`\\\\b']


def test_bash_shows_descriptions_only_where_it_lists() -> None:
    two = {"one": "the\nfirst \x1b[31mof", "three": "x" * 200}
    assert bash("", two) == ["=one", "=three"]
    assert bash("", {"one": "alone"}, "?") == ["=one"]
    first, second = bash("", two, "?")
    assert first == "=one    (the first of)"
    assert second.endswith("...)")
    assert len(second) == 80
    assert bash("", two, "?", columns=10) == ["=one", "=three"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", ("",)),
        ("a b", ("a", "b")),
        ("a ", ("a", "")),
        ("a\\ b", ("a b",)),
        ("'a b' c", ("a b", "c")),
        ("a 'b c", ("a", "b c")),
        ('a "', ("a", "")),
        ("a -only='b", ("a", "-only=b")),
        ("a 'b'c", None),
        ("a b\\", None),
    ],
)
def test_words_of_a_line_that_is_still_being_typed(
    typed: str, words: tuple[str, ...] | None
) -> None:
    if words is None:
        with pytest.raises(ValueError, match=r"^a "):
            line.split(typed)
    else:
        assert line.split(typed).words == words
