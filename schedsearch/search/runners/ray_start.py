"""Starts, joins and leaves Ray within a time limit, and keeps its output off the terminal."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.search.runners.ray_environment import WITHOUT_RAY, forget_other_clusters
from schedsearch.search.runners.ray_watch import reason_of, time_limit

START_SECONDS = 120.0
"""How long a private runtime may take to start."""

JOIN_SECONDS = 40.0
"""How long joining a cluster may take. Ray ends the process after 60 seconds."""

STOP_SECONDS = 60.0
"""How long Ray may take to shut down."""

GIVE_UP_SECONDS = 15.0
"""The same once it is lost."""

AGAIN = f"Finished trials are kept: run the same command again, {WITHOUT_RAY}."
"""What to do where Ray was lost."""


def start_runtime(num_cpus: int) -> None:
    """Start a private runtime, which listens on 127.0.0.1 and has no dashboard.

    Raises:
        StorageError: If it does not start.
    """
    forget_other_clusters()
    AuthenticationTokenLoader.instance().reset_cache()  # of an earlier cluster
    _stay_on_loopback()
    try:
        _init(
            START_SECONDS,
            f"Ray did not start within {START_SECONDS:g} s. {AGAIN}",
            address="local",  # never join a runtime that happens to be there
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            _node_ip_address="127.0.0.1",
        )
    except Exception as error:
        raise StorageError(f"Ray cannot start here: {reason_of(error)}. {AGAIN}") from error


def join_cluster(address: str) -> None:
    """Join a running cluster.

    Raises:
        ConfigError: If it does not let the driver join.
    """
    AuthenticationTokenLoader.instance().reset_cache()
    what = f"Cannot join the Ray cluster at {address}"
    advice = f"Check --address, or leave it out to run on this machine, {WITHOUT_RAY}."
    late = f"{what}: it did not answer within {JOIN_SECONDS:g} s. {advice}"
    try:
        _init(JOIN_SECONDS, late, address=address)
    except Exception as error:
        raise ConfigError(f"{what}: {reason_of(error)}. {advice}") from error


def stop_ray(loss: str | None = None) -> None:
    """Stop the private runtime, or leave the cluster.

    Args:
        loss: What is known to be lost; None where all is well.
    """
    seconds = STOP_SECONDS if loss is None else GIVE_UP_SECONDS
    with time_limit(seconds, loss or f"Ray did not shut down. {AGAIN}"):
        ray.shutdown()


def _init(seconds: float, late: str, **where: Any) -> None:
    is_main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with _quiet_stderr() as said:
        try:
            with time_limit(seconds, late, stream=said.terminal):
                ray.init(log_to_driver=False, configure_logging=False, **where)
        except Exception as error:
            if "InvalidAuthToken" in said.text():
                raise ConnectionError(
                    "its token is another one than that of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or "
                    "~/.ray/auth_token"
                ) from error
            raise
        finally:
            if is_main:
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray's handler ends with code 15


class _Said:
    """What compiled code wrote to stderr, and where stderr led before."""

    def __init__(self, file: IO[bytes], terminal: int | None) -> None:
        self._file = file
        self.terminal = terminal

    def text(self) -> str:
        self._file.seek(0)
        return self._file.read().decode(errors="replace")


@contextmanager
def _quiet_stderr() -> Iterator[_Said]:
    """Keep what Ray's Python and compiled code say from the terminal."""
    with tempfile.TemporaryFile() as file:
        try:
            terminal = os.dup(2)
        except OSError:  # there is no stderr
            yield _Said(file, None)
            return
        os.dup2(file.fileno(), 2)
        try:
            yield _Said(file, terminal)
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _stay_on_loopback() -> None:
    """Keep Ray from replacing 127.0.0.1 with the address that others can reach.

    It does so unless clusters are off, which is a switch made for other systems. Its children
    read the environment, this process has read it already.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
