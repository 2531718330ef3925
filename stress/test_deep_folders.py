"""Folders that are nested deeper than a stack of calls."""

import subprocess

import pytest

from packer_fork.errors import EXIT_DONE, EXIT_TO_BUILD
from tests.conftest import Cli, Project

pytestmark = pytest.mark.usefixtures("packer")

ALONE = """
    source "null" "n" { communicator = "none" }
    build { sources = ["null.n"] }
"""

COPIES_DEEP = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "file" {
        source      = "deep/"
        destination = "/nowhere"
      }
    }
"""


def test_folders_nested_deeper_than_a_stack(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ALONE)
    project.write("copies.pkr.hcl", COPIES_DEEP)
    file = project.root / "deep" / ("d/" * 1100) / "file"
    subprocess.run(["mkdir", "-p", file.parent], check=True)
    known = ("--input", "deep/**", "t.pkr.hcl")
    try:
        file.write_bytes(b"1")
        planned = cli("plan", "copies.pkr.hcl")
        assert "never built" in planned.out, planned
        assert cli("build", *known).rc == EXIT_DONE
        assert cli("plan", "--detailed-exitcode", *known).rc == EXIT_DONE
        file.write_bytes(b"2")
        assert cli("plan", "--detailed-exitcode", *known).rc == EXIT_TO_BUILD
    finally:
        subprocess.run(["rm", "-rf", "deep"], cwd=project.root, check=True)
