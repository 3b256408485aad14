"""Workers and drivers as forks of the test process, which has torch in memory already.

A fresh process imports torch for about five seconds. Workers of ``run_cli`` are forks; tests of
the real start use ``start_cli``. Once a process has run a backward pass, torch refuses to train
in its forks. Then fresh processes start instead, so tests that fork are sorted to the front.
"""

import contextlib
import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from schedsearch.cli.main import main
from schedsearch.search.runners import local

SHARED = (
    "schedsearch.search.campaign",
    "schedsearch.report.plots",
    "schedsearch.workers.trial",
    "optuna_dashboard",
    "trainers.ase",
)
"""Imported before the first fork, or each fork would import them for itself."""

TESTS = Path(__file__).resolve().parent

_serve = local._serve
_MOST_FILES = 4096


def _import_shared() -> None:
    for name in SHARED:
        importlib.import_module(name)


def _serve_in_a_fork(pipe: Connection, parent: int) -> None:
    """Body of a forked worker: closes its copies of the driver's pipes, lock and database."""
    # NOTE: the driver's garbage would close its files once more, by numbers that are in use again.
    gc.freeze()
    os.closerange(3, pipe.fileno())
    os.closerange(pipe.fileno() + 1, _MOST_FILES)
    _serve(pipe, parent)


def can_fork() -> bool:
    """Whether a fork of this process may train; asked of a fork."""
    _import_shared()
    import torch

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.ones(1, requires_grad=True).sum().backward()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Let the local runner fork its workers where it can, or start Python for each."""
    if not can_fork():
        yield
        return
    fork = SimpleNamespace(get_context=lambda _method: multiprocessing.get_context("fork"))
    with (
        mock.patch.object(local, "multiprocessing", fork),
        mock.patch.object(local, "_serve", _serve_in_a_fork),
    ):
        yield


def start_cli(*argv: object, log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in its own process group; both its streams go to ``log``."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "schedsearch", *map(str, argv)],
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,
            # A test run in the background hands down that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **options,
        )


class ForkedCall:
    """A function in its own process group; its streams go to ``log``.

    Args:
        call: Returns the exit code; an error makes it 1.
        log: File for both streams.
    """

    def __init__(self, call: Callable[[], int], log: Path) -> None:
        self.pid = os.fork()
        if self.pid:
            return
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
            code = call()
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


class ForkedCli(ForkedCall):
    """A command in its own process group, forked where possible; its streams go to ``log``."""

    def __init__(self, *argv: object, log: Path) -> None:
        if not can_fork():
            self.pid = start_cli(*argv, log=log).pid
            return
        super().__init__(lambda: _run_command(argv), log)


def _run_command(argv: tuple[object, ...]) -> int:
    with forked_workers():
        return main([str(word) for word in argv])
