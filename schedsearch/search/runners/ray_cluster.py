"""Checks of a Ray cluster: whether it is there, and whether its nodes can run the jobs."""

from __future__ import annotations

import socket

import ray
from ray._private import services

from schedsearch.exceptions import ConfigError
from schedsearch.search.runners.ray_watch import has_room, reason_of, shown

_CONNECT_SECONDS = 10.0


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
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Cannot join the Ray cluster at {address}: {reason_of(error)}. Check --address, or "
            "leave it out to run on this machine."
        ) from error


def check_nodes(needed: dict[str, float], *, is_private: bool) -> None:
    """Find out whether a job has a place to run.

    Args:
        needed: Resources of one job, by Ray's names.
        is_private: Whether no node will ever join.

    Raises:
        ConfigError: If no node of a private runtime has the resources.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if is_private and not any(has_room(resources, needed) for resources in nodes):
        raise ConfigError(
            f"A job needs {shown(needed)}, but Ray finds {shown(_ordinary(nodes[0]))} on this "
            "machine. Lower resources.cpus_per_trial or resources.gpus_per_trial."
        )


def _ordinary(resources: dict[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in resources.items() if name in ("CPU", "GPU")}
