"""Two runs on one machine do not time the same device at once."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
import torch

from schedsearch.evaluation import timing_lock as module
from schedsearch.evaluation.latency import LatencyBench
from schedsearch.evaluation.timing_lock import lock_path, timing_lock

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "gettempdir", lambda: str(tmp_path))


@pytest.fixture
def other_run() -> Iterator[int]:
    """A process that times the CPU until it is killed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with timing_lock(CPU):
            os.write(write, b".")
            signal.pause()
        os._exit(1)
    os.read(read, 1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def is_free() -> bool:
    """Whether a run could start to time the CPU without waiting."""
    handle = os.open(lock_path(CPU), os.O_RDONLY)
    try:
        module.fcntl.flock(handle, module.fcntl.LOCK_EX | module.fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def test_the_bench_holds_the_lock_and_leaves_it(net, solver, protocol):
    with LatencyBench(net, solver, protocol):
        assert not is_free()
    assert is_free()


def test_a_killed_run_leaves_no_lock(other_run, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module.time, "sleep", lambda _: os.kill(other_run, signal.SIGKILL))
    with timing_lock(CPU):
        assert caplog.messages == ["Waiting for another run that times cpu"]


def test_waiting_has_an_end_and_says_so(other_run, caplog):
    with timing_lock(CPU, longest_wait=0.0):
        (message,) = caplog.messages
    assert "both may disturb each other" in message
    assert not is_free()  # the other one still has it


def test_a_fork_does_not_keep_the_lock():
    with timing_lock(CPU):
        pid = os.fork()
        if pid == 0:
            signal.pause()
    try:
        assert is_free()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_lock_that_cannot_be_made_is_a_warning(tmp_path, caplog):
    lock_path(CPU).symlink_to(tmp_path / "elsewhere")
    with timing_lock(CPU):
        assert "cannot lock" in caplog.text
    assert not (tmp_path / "elsewhere").exists()
