"""A command opens each file of a template once, whatever asks what it says."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Cli, Project
from tests.support.strace import read_calls

pytestmark = pytest.mark.usefixtures("packer")

FILES = {
    "images/a.pkr.hcl": """
        variable "token" {
          type      = string
          sensitive = true
        }
        source "null" "n" { communicator = "none" }
        build {
          source "null.n" { name = "own" }
          provisioner "shell-local" { inline = ["echo ${local.region} ${var.token}"] }
        }
    """,
    "images/b.pkr.json": '{"variable": {"region": {"type": "string"}}}',
    "images/c.pkr.hcl": 'locals { region = "in ${var.region}" }\n',
    "images/v.auto.pkrvars.hcl": 'region = "eu"\n',
    "w.pkrvars.json": '{"token": "secret-token"}',
}
COMMAND = ("--input-command", "true", "-var-file=w.pkrvars.json", "images")


def opened(cli: Cli, log: Path, *words: str) -> Counter[str]:
    """How often packer-fork itself opens each of FILES; what Packer opens is not counted."""
    result = cli(*words, under=("strace", "-qq", "-e", "trace=openat", "-o", str(log)))
    assert result.rc == 0, result
    paths = re.findall(r'^openat\(.*?"(.*?)".*= \d+$', read_calls(log), re.MULTILINE)
    return Counter(name for path in paths for name in FILES if path.endswith(f"/{name}"))


def test_each_file_is_opened_once(cli: Cli, project: Project, tmp_path: Path) -> None:
    for name, text in FILES.items():
        project.write(name, text)
    once = Counter(dict.fromkeys(FILES, 1))
    for words in (("plan",), ("build",), ("plan", "--detailed-exitcode"), ("build",), ("inputs",)):
        assert opened(cli, tmp_path / "calls", *words, *COMMAND) == once, words
