"""Ends a worker whose run was stopped, as soon as nothing is lost by it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from schedsearch.runs.folder import RunFolder

_training = threading.Event()

run_dir = ""
"""Run folder of the job at hand; set by the worker's loop."""


class Stopped(BaseException):
    """Training ended after a saved state, since the run is stopping; no error."""


@contextmanager
def training() -> Iterator[None]:
    """While the block runs, only :meth:`FileProgress.save` ends the worker."""
    _training.set()
    try:
        yield
    finally:
        _training.clear()


def end_if_stopped() -> None:
    """End this process where the run is stopping and nothing is trained.

    Files are replaced at once, so an end at any moment leaves none half written.
    """
    if run_dir and not _training.is_set() and RunFolder.of(run_dir).stop_file.exists():
        os._exit(1)
