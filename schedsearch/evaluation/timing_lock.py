"""A lock for every device of a machine, so that only one run times it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import torch

_log = logging.getLogger(__name__)

LONGEST_WAIT = 600.0
"""Seconds that a run waits for another one that times the same device."""

_POLL = 0.1


@contextlib.contextmanager
def timing_lock(device: torch.device, *, longest_wait: float = LONGEST_WAIT) -> Iterator[None]:
    """Time a device while no other run of this machine does.

    The kernel drops the lock with the process. Runs see each other if they share the system's
    folder for temporary files. A run that cannot lock, or waits too long, goes on with a warning.

    Args:
        device: The device to time; all CPU cores are one device.
        longest_wait: Seconds.
    """
    path = lock_path(device)
    try:
        handle = _open(path)
    except OSError as error:
        _log.warning("Another run may time %s too: cannot lock %s (%s).", device, path, error)
        yield
        return
    try:
        _wait(handle, device, path, longest_wait)
        yield
    finally:
        # NOTE: Closing is not enough: a process forked meanwhile still holds the file.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def lock_path(device: torch.device) -> Path:
    """Path of a device's lock, the same for all users and environments of a machine."""
    name = device.type
    if device.type == "cuda":
        name = f"gpu-{torch.cuda.get_device_properties(device).uuid}"
    return Path(gettempdir()) / f"schedsearch-timing-{name}.lock"


def _open(path: Path) -> int:
    """Open the lock, or make it; reading is enough to lock another user's file."""
    # NOTE: Without O_NONBLOCK a pipe of this name would block.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        return os.open(path, flags)


def _wait(handle: int, device: torch.device, path: Path, longest_wait: float) -> None:
    end, told = time.monotonic() + longest_wait, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            _log.warning("Another run may time %s too: cannot lock %s (%s).", device, path, error)
            return
        if time.monotonic() >= end:
            _log.warning(
                "Another run has timed %s for %.0f s; this one no longer waits, so both may "
                "disturb each other.",
                device,
                longest_wait,
            )
            return
        if not told:
            _log.info("Waiting for another run that times %s", device)
            told = True
        time.sleep(_POLL)
