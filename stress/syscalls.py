"""Which files Packer's processes open, look up and execute, as strace reports it.

strace writes one file a process (``-ff``), so that no line is cut in two, and decodes the
descriptors that calls return (``-y``), so that an opened file has its real path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

_CALLS = (
    "open,openat,openat2,execve,execveat,chdir,clone,clone3,fork,vfork,%%stat,"
    "access,faccessat,faccessat2"
)
_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: (E\w+) .*)?$")
_FIRST_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_HERE = re.compile(r"AT_FDCWD<([^>]*)>")
_BUILD_NAME = re.compile(r"PACKER_BUILD_NAME='?([^'\"\\ ]+)")
_STARTS_PACKER = re.compile(r'"[^"]*/packer", \["[^"]*packer", "build"')
_STARTS = frozenset(("clone", "clone3", "fork", "vfork"))
_OPENS = frozenset(("open", "openat", "openat2"))
_ABSENT = frozenset(("ENOENT", "ENOTDIR"))


class Access(Struct, frozen=True):
    """One call that names a file. ``kind``: "read", "write", "exec", "stat" or "absent".

    ``build``: what Packer calls the build that the process works for, as scripts see it in
    PACKER_BUILD_NAME; empty for Packer itself and its plugins.
    """

    path: str
    kind: str
    build: str = ""


def under_strace(folder: Path) -> list[str]:
    """What to put before a command; `folder` gets one log a process."""
    log = str(folder / "process")
    shown = ["-e", f"trace={_CALLS}", "-e", "abbrev=!execve,execveat", "-s", "65536"]
    return ["strace", "-ff", "--seccomp-bpf", "-y", "-qq", *shown, "-o", log]


def accesses_of_packer(folder: Path) -> set[Access]:
    """Those of each ``packer build`` and of all that it started, from the logs in `folder`."""
    logs = {path.suffix[1:]: path.read_text("utf-8", "replace") for path in folder.iterdir()}
    parents = {child: pid for pid, text in logs.items() for child in _children(text)}
    found: set[Access] = set()
    for pid, text in logs.items():
        line_of_descent = [pid, *_ancestors(pid, parents)]
        if any(_STARTS_PACKER.search(logs[each]) for each in line_of_descent if each in logs):
            named = (_BUILD_NAME.search(logs[each]) for each in line_of_descent if each in logs)
            build = next((name[1] for name in named if name), "")
            found.update(_accesses(text, build))
    return found


def _children(text: str) -> Iterator[str]:
    for line in text.splitlines():
        call = _LINE.match(line)
        if call and call[1] in _STARTS and int(call[3]) > 0:
            yield call[3]


def _ancestors(pid: str, parents: Mapping[str, str]) -> Iterator[str]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def _accesses(text: str, build: str) -> Iterator[Access]:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        call = _LINE.match(line)
        first = _FIRST_PATH.match(call[2]) if call else None
        if call is None or first is None or not first[2]:
            continue
        kind = _kind(call[1], call[2], call[5])
        here = first[1] or _directory(lines[number:])
        path = os.path.normpath(os.path.join(here, _unescaped(first[2])))  # noqa: PTH118
        if kind and path.startswith("/"):
            yield Access(call[4] if kind in ("read", "write") else path, kind, build)


def _kind(name: str, arguments: str, error: str | None) -> str:
    if error:
        return "absent" if error in _ABSENT else ""
    if name in _OPENS:
        if "O_DIRECTORY" in arguments:
            return ""
        return "write" if "O_WRONLY" in arguments else "read"
    if name.startswith("exec"):
        return "exec"
    return "" if name == "chdir" else "stat"


def _directory(lines: list[str]) -> str:
    """Where the process is: as the next call tells that strace decodes; else unknown."""
    found = (_HERE.search(line) for line in lines)
    return next((here[1] for here in found if here), "")


def _unescaped(text: str) -> str:
    """A name as strace quotes it, in C's way."""
    if "\\" not in text:
        return text
    return os.fsdecode(text.encode("latin-1", "replace").decode("unicode_escape").encode("latin-1"))
