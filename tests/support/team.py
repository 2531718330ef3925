"""Machines of one team: each a checkout of the same project, with a home of its own."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Cli, Project, Running
from tests.support.servers import BUCKET, CREDENTIALS
from tests.support.templates import begun, go_on


def on(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on these servers, instead of on etcd."""
    return pytest.mark.parametrize("kind", kinds, indirect=True)


class Machine(NamedTuple):
    """Where packer-fork runs. What it knows of others comes from the store alone."""

    cli: Cli
    project: Project

    @property
    def root(self) -> Path:
        return self.project.root

    def set(self, settings: Mapping[str, str]) -> None:
        """Let packer-fork.toml have these settings, beside those that it has."""
        path = self.root / "packer-fork.toml"
        known = tomllib.loads(path.read_text()) if path.exists() else {}
        lines = [
            f"{name} = {json.dumps(value)}\n" for name, value in (known | dict(settings)).items()
        ]
        self.project.write("packer-fork.toml", "".join(lines))

    def outbox(self) -> list[Path]:
        """The late results that wait on this machine."""
        return list(self.root.rglob("*.late.json"))

    def begun(self, *args: str) -> Running:
        """A build of a gated template, under way."""
        for gate in ("begun", "go"):
            (self.root / gate).unlink(missing_ok=True)
        return begun(self.cli, self.project, *args, "t.pkr.hcl")

    def go_on(self) -> None:
        go_on(self.root)


class Team(NamedTuple):
    """``endpoints`` are those of the servers, below whose ``prefix`` the states are.

    Of a bucket it is the name alone: the environment of `cli` has its server.
    """

    cli: Cli
    kind: str
    prefix: str
    endpoints: tuple[str, ...]

    def url(self, *endpoints: str) -> str:
        """The store, reached by the servers' own endpoints or by others that lead there."""
        return f"{self.kind}://{','.join(endpoints or self.endpoints)}/{self.prefix}"

    def machine(
        self,
        name: str,
        template: str,
        *,
        at: Sequence[str] = (),
        env: Mapping[str, str] = {},
        settings: Mapping[str, str] = {},
    ) -> Machine:
        """A new machine with `template` in ``t.pkr.hcl``; `env` is in its environment.

        It reaches the servers `at` other endpoints, if any are given, that lead to them.
        """
        root = self.cli.files / name / "project"
        scratch = Path(self.cli.environment["TMPDIR"]) / name
        for folder in (root, scratch):
            folder.mkdir(parents=True)
        environment = {**self.cli.environment, "TMPDIR": str(scratch), **env}
        machine = Machine(self.cli._replace(cwd=root, environment=environment), Project(root))
        machine.set({"state": self.url(*at), "project": "web", **settings})
        machine.project.write("t.pkr.hcl", template)
        return machine


def bucket_team(cli: Cli, prefix: str, endpoint: str, *, bucket: str = BUCKET) -> Team:
    """States in a bucket of the server at `endpoint`."""
    environment = {**cli.environment, **CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{endpoint}"}
    return Team(cli._replace(environment=environment), "s3", prefix, (bucket,))
