"""Ctrl-C and SIGTERM arrive between two steps of a run, never in the middle of one."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from schedsearch.search.runners.interrupts import interrupts_afterwards


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
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
