"""Templates for tests, and the gates by which a test decides when a build goes on."""

from pathlib import Path

from tests.conftest import Cli, Project, Running, eventually

NULL_AND_FILE = """
    source "null" "n" { communicator = "none" }
    source "file" "f" {
      content = "hello"
      target  = "out.txt"
    }
    build {
      sources = ["null.n", "file.f"]
      provisioner "shell-local" { inline = ["echo provisioning"] }
    }
"""

GATED = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" {
        inline = [
          "echo begun; touch begun",
          "while [ ! -e $PWD/go ]; do sleep 0.1; done; echo gone on",
        ]
      }
    }
"""
"""One source that has begun when there is a file `begun`, and goes on when there is `go`."""

FAST_AND_GATED = """
    source "file" "fast" {
      content = "hello"
      target  = "fast.txt"
    }
    source "null" "slow" { communicator = "none" }
    build { sources = ["file.fast"] }
    build {
      sources = ["null.slow"]
      provisioner "shell-local" {
        inline = ["touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done"]
      }
    }
"""


def begun(cli: Cli, project: Project, *args: str, env: dict[str, str] | None = None) -> Running:
    """A build of a gated template, running, its gate still closed."""
    running = cli.start("build", *args, env=env)
    eventually(lambda: (project.root / "begun").exists() or running.process.poll() is not None)
    assert running.process.poll() is None, running.wait()
    return running


def go_on(root: Path) -> None:
    (root / "go").touch()


TWO = """
    variable "bad" { default = "none" }
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build {
      sources = ["null.a", "null.b"]
      provisioner "shell-local" { inline = ["test $PACKER_BUILD_NAME != ${var.bad}"] }
    }
"""
"""Two sources, of which one fails if it is asked to."""
