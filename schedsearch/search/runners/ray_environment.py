"""What Ray finds in the environment; set and checked before Ray is imported."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from schedsearch.exceptions import ConfigError

WITHOUT_RAY = "or run without Ray: -o resources.backend=local"
"""The way out that every message names."""

_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints boxes even with verbose=0
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else "(raylet) A worker died" on the terminal
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning without GPUs
    "RAY_AUTH_MODE": "token",  # also for clusters that others can reach
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C reaches the driver as it should
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results.jsonl is the record
}

_TOKEN = secrets.token_hex(32)
"""Of this process's private runtime. Its daemons and workers inherit it."""

_TEMPORARY_FOLDERS = ("RAY_TMPDIR", "TMPDIR")
_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path."""


def _set() -> None:
    os.environ.update(_SETTINGS)
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 starves trials on a busy machine


_set()  # NOTE: the package imports this module first, since Ray reads them at its import


def forget_other_clusters() -> None:
    """Keep variables of another cluster away from a private runtime.

    Names in capitals say where a cluster is, who may join it and how it was started. Ray's
    options, as in ``RAY_memory_usage_threshold``, stay.
    """
    for name in list(os.environ):
        if name.startswith("RAY_") and name.isupper() and name not in _TEMPORARY_FOLDERS:
            del os.environ[name]
    # A token from the environment needs no file in the home folder.
    os.environ["RAY_AUTH_TOKEN"] = _TOKEN
    _set()


def check_temporary_folder() -> None:
    """Find out whether Ray can make its files and sockets.

    Raises:
        ConfigError: If the temporary folder has too long a path, or cannot be written.
    """
    name = next((name for name in _TEMPORARY_FOLDERS if os.environ.get(name)), None)
    folder = Path(os.environ[name] if name else "/tmp").absolute()
    what = f"{name}={folder}" if name else str(folder)
    # The longest path that Ray makes below it.
    session = f"ray/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    length, room = len(os.fsencode(folder)), _LONGEST_SOCKET - len(session) - 1
    if length > room:
        raise ConfigError(
            f"Ray's sockets need a temporary folder whose path has at most {room} bytes, but "
            f"{what} has {length}. Set RAY_TMPDIR to a short folder such as /tmp, {WITHOUT_RAY}."
        )
    existing = next(path for path in (folder / "ray", *(folder / "ray").parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ConfigError(
            f"Ray needs a temporary folder that it can write, but {what} is none: "
            f"{error.strerror}. Set RAY_TMPDIR to one that is, {WITHOUT_RAY}."
        ) from error
