"""The private Ray runtime must not listen where other machines can reach it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from schedsearch.settings import ResourceSettings

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
LISTEN = "0A"


def listening_inodes() -> dict[str, str]:
    """Socket inode -> local address in hexadecimal, of every listening TCP socket."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                found[fields[9]] = fields[1].partition(":")[0]
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_private_runtime_listens_on_loopback_only(tmp_path):
    from schedsearch.search.runners.ray_tune import RayRunner, ray  # sets Ray's environment first

    before = listening_inodes()
    with RayRunner(ResourceSettings(), folder=tmp_path / "ray", log_file=tmp_path / "log"):
        assert ray.util.get_node_ip_address() == "127.0.0.1"
        ray.get(ray.remote(lambda: None).remote())  # workers listen too
        new = {inode: at for inode, at in listening_inodes().items() if inode not in before}
    assert new
    assert set(new.values()) <= LOOPBACK
