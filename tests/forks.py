"""Workers and drivers as forks of the test process, which has torch in memory already.

A fresh process imports torch for about five seconds. Workers of ``run_cli`` are forks; tests of
the real start use ``start_cli``.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from schedsearch.cli.main import main
from schedsearch.search.runners import local

_serve = local._serve
_MOST_FILES = 4096


def _serve_in_a_fork(pipe: Connection, parent: int) -> None:
    """Body of a forked worker: closes its copies of the driver's pipes, lock and database."""
    os.closerange(3, pipe.fileno())
    os.closerange(pipe.fileno() + 1, _MOST_FILES)
    _serve(pipe, parent)


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Let the local runner fork its workers instead of starting Python for each."""
    fork = SimpleNamespace(get_context=lambda _method: multiprocessing.get_context("fork"))
    with (
        mock.patch.object(local, "multiprocessing", fork),
        mock.patch.object(local, "_serve", _serve_in_a_fork),
    ):
        yield


class ForkedCli:
    """A command in a forked process with its own group; both its streams go to ``log``."""

    def __init__(self, *argv: object, log: Path) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                with log.open("a") as stream:
                    for number in (1, 2):
                        os.dup2(stream.fileno(), number)
                sys.stdout = os.fdopen(1, "w", buffering=1)
                sys.stderr = os.fdopen(2, "w", buffering=1)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for workers that Ray starts
                with forked_workers():
                    code = main([str(word) for word in argv])
            finally:
                os._exit(code)

    def wait(self, timeout: float = 240.0) -> int:
        """The exit code; negative for a signal."""
        end = time.monotonic() + timeout
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, "the command did not end"
            time.sleep(0.05)
