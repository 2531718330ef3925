"""What a command imports before it does anything: that is most of what it takes."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("asyncio", "email", "http", "portalocker", "prometheus_client", "pydantic", "rich"),
    *("socket", "ssl", "stamina", "tree_sitter", "tree_sitter_hcl", "zstandard"),
}
"""Each takes as long as a bare command does, or is of no use to one that only looks."""

SCRIPT = """
import sys
sys.argv = ["packer-fork", *sys.argv[1:]]
from packer_fork.cli import main
try:
    main()
finally:
    print("\\n".join(sys.modules), file=sys.stderr)
"""


def imported(folder: Path, *words: str) -> set[str]:
    """The packages that a command line has imported in the end."""
    done = subprocess.run(
        (sys.executable, "-c", SCRIPT, *words),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 11), done.stderr
    return {line.partition(".")[0] for line in done.stderr.splitlines()}


@pytest.mark.parametrize("words", [("--version",), ("lock", "status"), ("state", "show")])
def test_what_only_looks_imports_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert imported(tmp_path, *words) & HEAVY == set()


def test_the_version_is_told_without_what_reads_documents(tmp_path: Path) -> None:
    found = imported(tmp_path, "--version")
    assert "typer" in found
    assert not found & {"msgspec", "typing_extensions"}
