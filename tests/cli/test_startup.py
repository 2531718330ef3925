"""What a command imports before it does anything: that is most of what it takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_states import lock_of, open_store
from tests.support.states import folder

pytestmark = pytest.mark.processes

HEAVY = {
    *("asyncio", "email", "http", "portalocker", "prometheus_client", "pydantic", "rich"),
    *("secrets", "socket", "ssl", "stamina", "tomllib", "tree_sitter", "tree_sitter_hcl"),
    *("unittest", "urllib3", "zstandard"),
}
"""Each takes as long as a bare command does, or is of no use to one that only looks."""

NOT_FOR_LOCKS = {
    *("backports", "compression", "hashlib", "random", "tempfile"),
    *("packer_fork.codec", "packer_fork.inputs", "packer_fork.packer"),
    *("packer_fork.metrics", "packer_fork.stores.archive.history", "packer_fork.stores.shared"),
    *("packer_fork.stores.local.journal", "packer_fork.stores.local.reader"),
    *(
        "packer_fork.stores.local.kernel_locks",
        "packer_fork.views.github",
        "packer_fork.views.live",
    ),
}
"""What a state is read or written with; a lock tells of itself."""

ROOMS_OF_VERSION = {"cli", "errors", "lean_imports", "terminal", "views"}

MOST_OF_VERSION, MOST_OF_LOCK_STATUS = 14, 56
"""Modules of ours: each takes a quarter of a millisecond to be found, read and run."""

SCRIPT = """
import gc, sys
sys.argv = ["packer-fork", *sys.argv[1:]]
from packer_fork.cli import main
try:
    main()
finally:
    assert gc.get_freeze_count(), "garbage would be looked for at the end"
    print("\\n".join(sys.modules), file=sys.stderr)
"""


def imported(where: Path, *words: str) -> set[str]:
    """The modules that a command line has imported in the end."""
    done = subprocess.run(
        (sys.executable, "-c", SCRIPT, *words),
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 11), done.stderr
    return set(done.stderr.splitlines())


def among(found: set[str], unwanted: set[str]) -> set[str]:
    """Those that are one of `unwanted` or in one of them."""
    parts = (name.split(".") for name in found)
    beginnings = {".".join(each[:end]) for each in parts for end in range(1, len(each) + 1)}
    return beginnings & unwanted


def ours(found: set[str]) -> set[str]:
    """By their names below the package."""
    return {name.removeprefix("packer_fork.") for name in found if name.startswith("packer_fork.")}


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """Where there is a state whose lock was held."""
    (tmp_path / "t.pkr.hcl").touch()
    with lock_of(open_store(folder(tmp_path))):
        pass
    return tmp_path


def test_the_version_is_told_without_what_reads_documents(tmp_path: Path) -> None:
    found = imported(tmp_path, "--version")
    assert "typer" in found
    assert not among(found, HEAVY | {"msgspec", "typing_extensions"})
    assert {name.partition(".")[0] for name in ours(found)} == ROOMS_OF_VERSION
    assert len(ours(found)) <= MOST_OF_VERSION


@pytest.mark.parametrize("words", [(), ("t.pkr.hcl",)], ids=["all", "one"])
def test_locks_are_told_of_without_what_reads_states(locked: Path, words: tuple[str, ...]) -> None:
    found = imported(locked, "lock", "status", *words)
    assert not among(found, HEAVY | NOT_FOR_LOCKS)
    assert "views.locks" in ours(found)
    assert len(ours(found)) <= MOST_OF_LOCK_STATUS


def test_a_state_is_shown_without_anything_heavy(locked: Path) -> None:
    found = imported(locked, "state", "show", "t.pkr.hcl")
    assert not among(found, HEAVY)
    assert "stores.local.reader" in ours(found)


NOT_FOR_UP_TO_DATE = {
    *(HEAVY - {"portalocker"}),  # its primitives alone
    *(
        "inspect",
        "json",
        "logging",
        "portalocker.utils",
        "shutil",
        "subprocess",
        "tempfile",
        "traceback",
    ),
    *("typer", "typing_extensions", "packer_fork.template.value_role_table"),
    *("importlib.metadata", "statistics", "zipfile", "packer_fork.inputs.collect"),
    *("packer_fork.inputs.hcl", "packer_fork.manager.build.executor"),
    *("packer_fork.manager.build.recovery", "packer_fork.manager.build.work_item"),
    *("packer_fork.inputs.watcher", "packer_fork.packer.evaluate", "packer_fork.packer.process"),
}
"""What asks Packer, reads templates or runs builds."""

MOST_OF_UP_TO_DATE = 117


@pytest.mark.usefixtures("packer")
@pytest.mark.parametrize("command", ["plan", "build"])
def test_what_is_up_to_date_is_told_without_what_builds(tmp_path: Path, command: str) -> None:
    source = 'source "null" "n" { communicator = "none" }\nbuild { sources = ["null.n"] }\n'
    (tmp_path / "t.pkr.hcl").write_text(source)
    assert "packer_fork.inputs.collect" in imported(tmp_path, "build", "t.pkr.hcl")
    found = imported(tmp_path, command, "t.pkr.hcl")
    assert not among(found, NOT_FOR_UP_TO_DATE)
    assert len(ours(found)) <= MOST_OF_UP_TO_DATE
