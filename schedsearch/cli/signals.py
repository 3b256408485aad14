"""Ctrl-C and SIGTERM end a long command as one KeyboardInterrupt."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping_with(advice: str) -> Iterator[None]:
    """Turn whatever ends the block after a signal into one KeyboardInterrupt.

    Compiled code may turn a KeyboardInterrupt into another error. Batch systems send SIGTERM.

    Args:
        advice: What to do next; the interrupt carries it.

    Raises:
        KeyboardInterrupt: If a signal ended the block.
    """
    arrived: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if callable(signal.getsignal(signal.SIGINT)):  # a job in the background ignores Ctrl-C
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except BaseException as error:
        if arrived or isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(advice) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
