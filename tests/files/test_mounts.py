"""Which file system a path lies on."""

from pathlib import Path

import pytest

from schedsearch.files.mounts import network_file_system

MOUNTS = r"""rootfs / ext4 rw 0 0
server:/users /users nfs4 rw 0 0
tmpfs /users/me/local tmpfs rw 0 0
fs /big\040data lustre rw 0 0
odd
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/run", None),
        ("/users/me/run", "nfs4"),
        ("/users2/me", None),
        ("/users/me/local/run", None),
        ("/big data/x", "lustre"),
    ],
)
def test_network_file_systems_are_told_by_their_mount(
    path: str, kind: str | None, tmp_path: Path
) -> None:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    assert network_file_system(Path(path), table) == kind


def test_a_machine_without_such_a_table(tmp_path: Path) -> None:
    assert network_file_system(tmp_path, tmp_path / "none") is None
