"""One line that names the machine, so that figures of two machines are not mixed up."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def line(folder: Path) -> str:
    """System, kernel, processors and Python; and the file system that `folder` is on."""
    name, cores = os.uname(), os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    kernel = name.release.partition("-")[0]
    return (
        f"{name.sysname} {kernel} {name.machine}, {cores} CPUs ({_processor()}), "
        f"{python}, {file_system(folder)}"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    models = [row.partition(":")[2] for row in text.splitlines() if row.startswith("model name")]
    return " ".join(models[0].split()) if models else "unknown"


def file_system(folder: Path) -> str:
    """Its type, from the mount that holds `folder`; "unknown file system" if nobody tells."""
    try:
        rows = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown file system"
    mounts = [row.split()[1:3] for row in rows.splitlines()]
    here = folder.resolve()
    holding = [(point, kind) for point, kind in mounts if here.is_relative_to(_unescaped(point))]
    deepest = max((len(point) for point, _ in holding), default=0)
    found = [kind for point, kind in holding if len(point) == deepest]
    return found[-1] if found else "unknown file system"


def _unescaped(point: str) -> str:
    return point.replace("\\040", " ")
