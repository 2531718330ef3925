"""Machines that share out the sources of one template: what each built, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import Cli, Project, Result, Running, eventually

NAMES = tuple("abcd")
SOURCES = tuple(f"null.{name}" for name in NAMES)


def template(*, names: Sequence[str] = NAMES, fails: str = "") -> str:
    """A source of each name, which notes that it has begun, and waits at its gate.

    The one that `fails` does so once its gate is open, unless there is a file `mended`.
    """
    sources = "".join(f'source "null" "{name}" {{\n  communicator = "none"\n}}\n' for name in names)
    script = [
        'echo "$PACKER_BUILD_NAME $MACHINE" >> "$SITE/journal"',
        'while [ ! -e "$SITE/all" ] && [ ! -e "$SITE/$PACKER_BUILD_NAME" ]; do sleep 0.1; done',
        f'[ "$PACKER_BUILD_NAME" != "{fails}" ] || [ -e "$SITE/mended" ]',
    ]
    inline = ", ".join(f'"{line.replace(chr(34), chr(92) + chr(34))}"' for line in script)
    listed = ", ".join(f'"null.{name}"' for name in names)
    return (
        f"{sources}build {{\n  sources = [{listed}]\n"
        f'  provisioner "shell-local" {{\n    inline = [{inline}]\n  }}\n}}\n'
    )


class Machine(NamedTuple):
    """``under`` is the command by which something runs in the machine's network."""

    name: str
    cli: Cli
    under: Sequence[str] = ()

    def start(self, *args: str) -> Running:
        return self.cli.start("build", *args, "t.pkr.hcl", under=self.under)

    def share(self, *args: str) -> Running:
        return self.start("--share", *args)

    def __call__(self, *args: str) -> Result:
        return self.cli(*args, under=self.under)


class Site(NamedTuple):
    """Where scripts note what they did, and find their gates open or closed."""

    kind: str
    folder: Path
    cli: Cli
    settings: Mapping[str, str]
    networks: Sequence[Sequence[str]] = ()

    def machine(self, name: str, text: str, number: int = 0) -> Machine:
        """With a checkout of its own; on a local store all have the same.

        `number`: in which of the networks it is, if there are any.
        """
        root = self.folder / ("project" if self.kind == "local" else f"{name}/project")
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(self.cli.environment["TMPDIR"]) / name
        scratch.mkdir()
        lines = [f'{key} = "{value}"\n' for key, value in self.settings.items()]
        project = Project(root)
        project.write("packer-fork.toml", "".join(lines))
        project.write("t.pkr.hcl", text)
        told = {"SITE": str(self.folder), "MACHINE": name, "TMPDIR": str(scratch)}
        cli = self.cli._replace(cwd=root, environment={**self.cli.environment, **told})
        return Machine(name, cli, self.networks[number] if self.networks else ())

    def machines(self, *names: str, text: str = "") -> list[Machine]:
        made = text or template()
        return [self.machine(name, made, number) for number, name in enumerate(names)]

    def open(self, *names: str) -> None:
        """Let those sources go on, or all."""
        for name in names or ("all",):
            (self.folder / name).touch()

    def began(self) -> list[tuple[str, str]]:
        """Source and machine, in the order in which they were begun."""
        path = self.folder / "journal"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(source, machine) for source, machine in map(str.split, lines)]

    def await_begun(self, count: int, *running: Running) -> None:
        """Until so many were begun; a build that ends before is shown."""
        eventually(
            lambda: (
                len(self.began()) >= count
                or any(each.process.poll() is not None for each in running)
            ),
            60,
        )
        assert len(self.began()) >= count, [each.err() for each in running]

    def of(self, machine: str) -> list[str]:
        return [source for source, by in self.began() if by == machine]


def results(err: str) -> list[str]:
    """What a build told of the whole run at its end, line by line, without how long it took."""
    lines = err.splitlines()
    begin = max(n for n, line in enumerate(lines) if line.startswith("packer-fork: run 1 "))
    return [line.partition(" in ")[0].partition(" after ")[0] for line in lines[begin:]]
