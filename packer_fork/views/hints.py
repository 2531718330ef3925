"""Commands in hints, completed with the template and the options that find the same state."""

from __future__ import annotations

import os
import re
import shlex

_COMMAND = re.compile(
    r"packer-fork (state (check( --repair)?|recover|adopt)|lock status)(?=[ `.]|$)"
)
_UNLOCK = re.compile(r"packer-fork force-unlock \S+")
_given: dict[str, str] = {}
_unlock_option: list[str] = []


def choose_state(template: str | None, workspace: str | None, state: str | None) -> None:
    """Let all hints from now on name the state that these arguments select."""
    _given.clear()
    _given.update(_arguments(template, workspace, state))
    _unlock_option[:] = [_given.get("state") or _state_elsewhere(template)]


def completed(hint: str) -> str:
    """`hint`, its commands with the arguments of `choose_state`."""
    every, option = "".join(_given.values()), "".join(_unlock_option)
    hint = _COMMAND.sub(lambda found: found[0] + every, hint)
    return _UNLOCK.sub(lambda found: found[0] + option, hint)


def repair_command(template: str, workspace: str) -> str:
    """The command that repairs the state of `template`, or the chosen one."""
    own = {} if "template" in _given else _arguments(template, workspace, None)
    return f"packer-fork state check --repair{''.join({**own, **_given}.values())}"


def _arguments(template: str | None, workspace: str | None, state: str | None) -> dict[str, str]:
    found = {}
    if template is not None:
        found["template"] = f" {shlex.quote(template)}"
    if workspace is not None and workspace != "default":
        found["workspace"] = f" --workspace {shlex.quote(workspace)}"
    if state is not None:
        found["state"] = f" --state {shlex.quote(state)}"
    return found


def _state_elsewhere(template: str | None) -> str:
    """The option for states that are not below the working directory, where locks are sought."""
    if template is None:
        return ""
    path = os.path.realpath(template)
    folder = path if os.path.isdir(path) else os.path.dirname(path)  # noqa: PTH112, PTH120
    states = os.path.join(folder, ".packer-fork")  # noqa: PTH118
    is_below = f"{folder}/".startswith(f"{os.path.realpath('.')}/".replace("//", "/"))
    if is_below or not os.path.isdir(states):  # noqa: PTH112
        return ""
    return f" --state {shlex.quote(states)}"
