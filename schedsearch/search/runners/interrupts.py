"""Holds signals that end a run back: until a step is done, or workers saved their state."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run, where the command line listens to them."""

GRACE_SECONDS = 10.0
"""How long a stopped run waits for its workers to save what they train."""


@contextmanager
def interrupts_afterwards() -> Iterator[None]:
    """Hold these signals back until the block has ended.

    Compiled code below a source turns a KeyboardInterrupt into an error of its kind, or drops it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only
        return
    held: list[tuple[int, FrameType | None]] = []
    before = {
        number: handler for number in ENDING if callable(handler := signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, lambda *arrived: held.append(arrived))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for arrived, frame in held:
        before[signal.Signals(arrived)](arrived, frame)


class StopRequest:
    """A signal while jobs run: the first asks the workers to end, a second ends at once.

    Workers see the request as a file in the run folder, so that it reaches those of other nodes.

    Args:
        stop_file: The file; None ends at once.
        grace: Seconds that the workers have.
    """

    def __init__(self, stop_file: Path | None, grace: float = GRACE_SECONDS) -> None:
        self._stop_file = stop_file
        self._grace = grace
        self._before: dict[int, Callable[..., Any]] = {}
        self._arrived: tuple[float, int] | None = None

    def __enter__(self) -> StopRequest:
        """Take over the signals that end a run."""
        if self._stop_file is None or threading.current_thread() is not threading.main_thread():
            return self
        for number in ENDING:
            if callable(handler := signal.getsignal(number)):
                self._before[number] = handler
                signal.signal(number, self._ask)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the signals back, and take the request away."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._stop_file is not None and self._arrived is not None:
            with contextlib.suppress(OSError):
                self._stop_file.unlink(missing_ok=True)

    @property
    def requested(self) -> bool:
        """Whether the run is stopping."""
        return self._arrived is not None

    @property
    def over(self) -> bool:
        """Whether the workers had their time."""
        return self._arrived is not None and time.monotonic() - self._arrived[0] > self._grace

    def finish(self) -> None:
        """Do what the signal would have done without the grace.

        Raises:
            KeyboardInterrupt: As the command line has it.
        """
        assert self._arrived is not None
        self._before[self._arrived[1]](self._arrived[1], None)
        raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        assert self._stop_file is not None
        if self._arrived is not None:
            self._before[number](number, frame)
            return
        self._arrived = (time.monotonic(), number)
        try:
            self._stop_file.touch()
        except OSError:  # a full or lost disk takes no state either
            self._before[number](number, frame)
