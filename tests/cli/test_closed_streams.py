"""A build whose standard streams are closed: it builds, as Packer does."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from tests.conftest import Cli, Project

TEMPLATE = 'source "null" "a" { communicator = "none" }\nbuild { sources = ["null.a"] }\n'


@pytest.mark.usefixtures("packer")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_build_with_a_closed_stream_builds(cli: Cli, project: Project, closed: str) -> None:
    project.write("t.pkr.hcl", TEMPLATE)
    command = f"exec {shlex.quote(sys.executable)} -m packer_fork build t.pkr.hcl {closed}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=cli.cwd, env=dict(cli.environment), check=False
    )
    assert done.returncode == 0
    assert "null.a  complete" in cli("state", "show", "t.pkr.hcl").out
