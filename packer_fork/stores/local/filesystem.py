"""Which file system a folder is on: a kernel lock proves death only on a local one."""

from __future__ import annotations

import re
from pathlib import Path

_SHARED = (
    r"nfs\d?|cifs|smb\d?|smbfs|9p|virtiofs|ceph|lustre|beegfs|gpfs|afs|gfs2|ocfs2|glusterfs"
    r"|fuse(\..+)?"
)
_ESCAPE = r"\\([0-7]{3})"


def type_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Name of the file system type as the kernel gives it; "" where it does not tell.

    The format of mountinfo is described in proc(5).
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    where = folder.resolve()
    best, found = -1, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = Path(re.sub(_ESCAPE, lambda m: chr(int(m[1], 8)), fields.split(" ")[4]))
        if where.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), rest.partition(" ")[0]
    return found


def is_shared(kind: str) -> bool:
    """Whether other machines, or a server that we cannot see, may hold locks there."""
    return re.fullmatch(_SHARED, kind) is not None
