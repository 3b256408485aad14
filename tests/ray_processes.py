"""Drivers on Ray runtimes apart from all others on the machine, and their daemons."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from forks import ForkedCli
from tiny_runs import children_of

from schedsearch.exceptions import SchedSearchError


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def daemons_of(pid: int, name: str) -> list[int]:
    """Processes below a driver that run one of Ray's programs."""
    return [child for child in children_of(pid) if program_of(child).endswith(f"/{name}")]


def program_of(pid: int) -> str:
    """The first word of a process's command; empty where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return ""


class ForkedDriver(ForkedCli):
    """A function in its own process group; its errors end it as they end the command line."""

    def __init__(self, call: Callable[[], None], log: Path) -> None:
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
            call()
            code = 0
        except SchedSearchError as error:
            print(f"schedsearch: {error}", file=sys.stderr)
            code = int(error.exit_code)
        finally:
            os._exit(code)
