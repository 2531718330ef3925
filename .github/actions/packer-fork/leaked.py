"""Reads ``state show --json``, and warns of every instance that may have been left behind."""

# ruff: noqa: INP001 (a script, not a package)
import json
import sys
from typing import Any

RESTING = (None, "complete")
"""Never begun, which a state does not spell out, and ended well."""


def leaked(build: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of earlier runs, and that of the last one unless it ended well."""
    found = list(build.get("leftovers", []))
    last = build.get("instance", {})
    if build.get("status") not in RESTING and last.get("id") and last not in found:
        found.append(last)
    return found


def escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def main() -> None:
    try:
        state = json.load(sys.stdin) or {"builds": {}}
    except ValueError:
        sys.exit("packer-fork: the state could not be read; see the lines above")
    for name, build in state["builds"].items():
        for instance in leaked(build):
            words = (instance.get(key, "") for key in ("provider", "region", "id"))
            what = " ".join(word for word in words if word)
            text = f"{name} may have left {what} behind. Once it is gone: "
            remedy = f"packer-fork state rm --instance {instance['id']}"
            sys.stdout.write(f"::warning title=possibly leaked::{escaped(text + remedy)}\n")


if __name__ == "__main__":
    main()
