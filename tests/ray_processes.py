"""Drivers on Ray runtimes apart from all others on the machine, and their daemons."""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from forks import ForkedCall
from tiny_runs import children_of, is_alive, wait_until

from schedsearch.exceptions import SchedSearchError
from schedsearch.files.atomic import write_text


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


def busy_workers(pids: set[int]) -> list[int]:
    """Worker processes in which Tune runs a job, by the title that Ray gives them."""
    titles = ("ray::ImplicitFunc", "ray::_trainable")
    return [pid for pid in pids if program_of(pid).startswith(titles)]


class ForkedDriver(ForkedCall):
    """A function in its own process group; its errors end it as they end the command line."""

    def __init__(self, call: Callable[[], None], log: Path) -> None:
        def guarded() -> int:
            try:
                call()
            except SchedSearchError as error:
                print(f"schedsearch: {error}", file=sys.stderr)
                return int(error.exit_code)
            return 0

        super().__init__(guarded, log)


class ThreeNodes(ForkedDriver):
    """A Ray cluster on this machine: nodes of one CPU, all but the head with a T4 in name."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "cluster.json"
        super().__init__(self._hold, folder / "cluster.txt")

    def _hold(self) -> None:
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the workers
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        t4 = {"accelerator_type:T4": 1}
        nodes = [cluster.add_node(num_cpus=1, resources=kind) for kind in ({}, t4, t4)]
        state = {
            "address": cluster.address,
            "gcs": nodes[0].all_processes["gcs_server"][0].process.pid,
            "raylets": [node.all_processes["raylet"][0].process.pid for node in nodes],
        }
        write_text(self._state, json.dumps(state))
        signal.sigwait({signal.SIGTERM})
        cluster.shutdown()

    def __enter__(self) -> "ThreeNodes":
        wait_until(lambda: self._state.exists() or not is_alive(self.pid), 300)
        state = json.loads(self._state.read_text())
        self.address: str = state["address"]
        self.gcs: int = state["gcs"]
        self.raylets: list[int] = state["raylets"]
        return self

    def __exit__(self, *exc_info: object) -> None:
        below = children_of(self.pid)
        os.kill(self.pid, signal.SIGTERM)
        try:
            self.wait(60)
        finally:
            for pid in below | {self.pid}:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
