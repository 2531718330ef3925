"""Asking packer-fork, as a user does, what it remembers."""

import json
from pathlib import Path
from typing import Any

from tests.conftest import Cli


def state(cli: Cli, template: str = "t.pkr.hcl", *args: str) -> Any:
    result = cli("state", "show", template, "--json", *args)
    assert result.rc == 0, result
    return json.loads(result.out)


def statuses(cli: Cli, template: str = "t.pkr.hcl") -> dict[str, str]:
    return {name: build["status"] for name, build in _builds(state(cli, template)).items()}


def _builds(document: Any) -> dict[str, Any]:
    return {name: {"status": "pending", **build} for name, build in document["builds"].items()}


def lock(cli: Cli, template: str = "t.pkr.hcl", *args: str) -> Any:
    result = cli("lock", "status", template, "--json", *args)
    report = json.loads(result.out)
    assert result.rc == (0 if report["status"] == "free" else 11)
    return report


def status(cli: Cli, template: str = "t.pkr.hcl") -> str:
    return str(lock(cli, template)["status"])


def folder(root: Path, template: str = "t.pkr.hcl", workspace: str = "default") -> Path:
    return root / ".packer-fork" / template / workspace


def unfinished(cli: Cli, template: str = "t.pkr.hcl") -> list[str]:
    """The run and the work items of it that are marked running."""
    document = state(cli, template)
    found = {f"run {document['last_run']['number']}": document["last_run"]}
    found |= document.get("items", {})
    return [name for name, each in found.items() if each.get("status", "running") == "running"]
