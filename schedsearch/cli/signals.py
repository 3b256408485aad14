"""Ctrl-C, SIGTERM and SIGHUP end a command as one KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command."""


@contextmanager
def stopping_with(advice: str) -> Iterator[None]:
    """Turn whatever ends the block after a signal into one KeyboardInterrupt.

    Compiled code may turn a KeyboardInterrupt into another error. Batch systems send SIGTERM, and
    a terminal that closes SIGHUP. What the parent ignores, as ``nohup`` does, stays ignored.

    Args:
        advice: What to do next; the interrupt carries it, unless it has its own.

    Raises:
        KeyboardInterrupt: If a signal ended the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only
        return
    arrived: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)
        raise KeyboardInterrupt

    heard = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    except BaseException as error:
        if arrived or isinstance(error, KeyboardInterrupt):
            own = str(error) if isinstance(error, KeyboardInterrupt) else ""
            raise KeyboardInterrupt(own or advice) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
