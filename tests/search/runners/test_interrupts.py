"""Ctrl-C and SIGTERM arrive between two steps of a run, never in the middle of one."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedsearch.search.runners.interrupts import StopRequest, interrupts_afterwards


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that interrupts, as the command line arranges it."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(request.param, interrupt)
    yield request.param
    signal.signal(request.param, before)


def test_a_block_ends_before_the_interrupt_arrives(number: signal.Signals) -> None:
    handler, done = signal.getsignal(number), []

    def step() -> None:
        with interrupts_afterwards():
            os.kill(os.getpid(), number)
            done.append("recorded")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["recorded"]
    assert signal.getsignal(number) is handler
    with interrupts_afterwards():  # nothing is left over
        done.append("again")


def test_an_error_in_the_block_is_what_is_raised(number: signal.Signals) -> None:
    handler = signal.getsignal(number)

    def step() -> None:
        with interrupts_afterwards():
            os.kill(os.getpid(), number)
            raise ValueError("broke")

    with pytest.raises(ValueError, match="broke"):
        step()
    assert signal.getsignal(number) is handler


def test_other_threads_are_left_alone() -> None:
    done = []

    def work() -> None:
        with interrupts_afterwards():
            done.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["worked"]


def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / ".stop"

    def step() -> None:
        with StopRequest(file, grace=0.0) as stop:
            assert not stop.requested
            os.kill(os.getpid(), number)
            assert stop.requested
            assert stop.over
            assert file.exists()
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert not file.exists()


def test_a_request_ends_as_the_signal_would_have(number: signal.Signals, tmp_path: Path) -> None:
    def step() -> None:
        with StopRequest(tmp_path / ".stop") as stop:
            os.kill(os.getpid(), number)
            assert not stop.over
            stop.finish()

    with pytest.raises(KeyboardInterrupt):
        step()


def test_without_a_file_a_signal_ends_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), StopRequest(None):
        os.kill(os.getpid(), number)
