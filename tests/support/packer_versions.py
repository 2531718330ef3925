"""What differs between the Packers that the tests may run with, `make test PACKER=PATH`.

Each function holds one difference, with the release that brought it. A test asks here for
what it expects, and makes the same assertions with every Packer.
"""

import functools
import shutil
import subprocess

import pytest


@functools.cache
def version_text() -> str:
    """The version of the Packer on PATH, ``1.6.6``; empty where there is none."""
    found = shutil.which("packer")
    if found is None:
        return ""
    printed = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return printed.stdout.partition("\n")[0].strip().removeprefix("Packer v")


def _is_at_least(*release: int) -> bool:
    numbers = version_text().partition("-")[0].split(".")
    return tuple(map(int, numbers)) >= release


def script_line(build: str, text: str) -> str:
    """How Packer prints `text`, a line that a script of `build` wrote to standard output."""
    return f"==> {build}: {text}" if _is_at_least(1, 13, 0) else f"    {build}: {text}"


def first_of_two_failed(step: str) -> str:
    """What `plan` says where the first of two provisioners has failed.

    Since 1.13 a script may print the words of the failure.
    """
    return f"failed{', probably' * _is_at_least(1, 13, 0)} at {step}"


def json_build(builder: str, name: str) -> str:
    """What `packer build` calls a builder of a JSON template that has a `name`."""
    return f"{builder}.{name}" if _is_at_least(1, 8, 4) else name


def debug_pauses(*, steps: int, provisioners: int) -> int:
    """How often ``-debug`` waits for Enter; `steps` counts the ends and clean-ups of steps."""
    return steps + (provisioners if _is_at_least(1, 8, 0) else 0)


def plugin_processes(*plugins: str) -> set[str]:
    """The processes of built-in `plugins`, by the words that name a process."""
    if _is_at_least(1, 11, 0):
        return {"packer execute"}
    return {f"packer plugin {plugin}" for plugin in plugins}


def masks_machine_readable() -> bool:
    """Whether Packer itself hides secrets in machine-readable output."""
    return _is_at_least(1, 15, 1)


def needs_built_in(component: str) -> None:
    """Skip the test if `component`, of a plugin since 1.10, is no part of this Packer."""
    if _is_at_least(1, 10, 0):
        pytest.skip(f"Packer {version_text()} has no {component} of its own: it is in a plugin")
