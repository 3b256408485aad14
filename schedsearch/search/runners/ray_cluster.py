"""Checks whether a Ray cluster is there and its nodes can run the jobs."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from ray._private import services
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from schedsearch.exceptions import ConfigError
from schedsearch.search.runners.ray_watch import ACCELERATOR, has_room, reason_of, shown

_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 60.0
_HTTP2_SETTINGS = b"\x04"
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + bytes(5)
_FRAME_HEADER = 9
"""Bytes: length 3, type 1, flags 1, stream 4 (RFC 9113, Sec. 4.1)."""
_END = 2**20
"""Bytes at each end of a file that are compared."""
_PACKAGES = ("schedsearch", "torch")


def check_address(address: str) -> None:
    """Find out whether something listens at the address of a cluster.

    Raises:
        ConfigError: If nothing does, or it is no address of a cluster.
    """
    if "://" in address:
        raise ConfigError(
            f"--address names the cluster's GCS as HOST:PORT, or is auto, but got {address}. Run "
            "on a node of the cluster: a Ray client cannot drive a search."
        )
    try:
        found = services.canonicalize_bootstrap_address(address)
        if found is None:
            raise ConnectionError("no cluster runs on this machine")
        _greet(found)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Cannot join the Ray cluster at {address}: {reason_of(error)}. Check --address, or "
            "leave it out to run on this machine."
        ) from error


def _greet(address: str) -> None:
    """Exchange the first frames of HTTP/2, which gRPC speaks; a hung process does not answer.

    Raises:
        OSError: If no gRPC server answers.
    """
    host, _, port = address.rpartition(":")
    link = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS)
    with link:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        link.sendall(_HTTP2_GREETING)
        if link.recv(_FRAME_HEADER, socket.MSG_WAITALL)[3:4] != _HTTP2_SETTINGS:
            raise ConnectionError("what listens there is no Ray cluster")


def check_room(needed: dict[str, float]) -> None:
    """Check that a private runtime can run a job; a cluster may get nodes later.

    Args:
        needed: Resources of one job, by Ray's names.

    Raises:
        ConfigError: If it lacks the resources.
    """
    (found,) = (node["Resources"] for node in ray.nodes() if node["Alive"])
    if not has_room(found, needed):
        names = ("CPU", "GPU", *(name for name in found if name.startswith(ACCELERATOR)))
        ordinary = {name: found.get(name, 0.0) for name in names}
        raise ConfigError(
            f"A job needs {shown(needed)}, but Ray finds {shown(ordinary)} on this machine. Lower "
            "resources.cpus_per_trial or gpus_per_trial, or change resources.accelerator."
        )


def check_nodes(paths: Sequence[str]) -> None:
    """Check that every node of a cluster sees the driver's files and has its versions.

    Args:
        paths: Files and folders that jobs read, the run folder's lock among them.

    Raises:
        ConfigError: With the first difference of the first node that differs.
    """
    own, expected = ray.get_runtime_context().get_node_id(), look(paths)
    views = {
        node["NodeManagerAddress"]: ray.remote(num_cpus=0, max_retries=0)(look)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(paths)
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != own
    }
    for host, view in views.items():
        try:
            found = ray.get(view, timeout=_LOOK_SECONDS)
        except Exception as error:
            last_line = str(error).strip().rpartition("\n")[2]  # before it stands a traceback
            raise ConfigError(
                f"The node {host} of the Ray cluster cannot run jobs: {reason_of(last_line)}. "
                "Install schedsearch there as it is here, or take the node away."
            ) from error
        for what, here in expected.items():
            if found[what] != here:
                raise ConfigError(
                    f"All nodes of a Ray cluster need the same files and versions, but {what} is "
                    f"{found[what]} on {host} and {here} here. Share the folder under the same "
                    "path, or install the same version."
                )


def look(paths: Sequence[str]) -> dict[str, str]:
    """What this node has: its versions, and what lies at each path."""
    found = {f"the version of {name}": _version(name) for name in _PACKAGES}
    return found | {path: _content(Path(path)) for path in paths}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _content(path: Path) -> str:
    """A file's size and a digest of its ends, since it may be large."""
    if path.is_dir():
        return "a folder"
    if not path.is_file():
        return "missing"
    size, ends = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as handle:
        ends.update(handle.read(_END))
        handle.seek(max(0, size - _END))
        ends.update(handle.read(_END))
    return f"a file of {size} bytes ({ends.hexdigest()[:8]})"
