"""Which file system a path lies on."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph",
        "glusterfs", "fuse.glusterfs", "fuse.sshfs", "afs", "9p", "panfs", "orangefs", "wekafs",
    }
)  # fmt: skip
"""File systems that several machines share; SQLite's locks and shared memory may fail there."""


def network_file_system(path: Path, table: Path = Path("/proc/self/mounts")) -> str | None:
    """Kind of the network file system that a path lies on.

    Args:
        path: A file or folder; it need not exist.
        table: The mounts of this machine, as Linux lists them.

    Returns:
        A name such as ``nfs4``; None for any other file system, or where nothing is known.
    """
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    here, found = path.resolve(), (-1, "")
    for fields in map(str.split, lines):
        if len(fields) < 3:
            continue
        # NOTE: blanks of a mount point stand there as octal escapes.
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))
        if here.is_relative_to(point):
            found = max(found, (len(point.parts), fields[2]), key=lambda f: f[0])
    return found[1] if found[1] in NETWORK else None
