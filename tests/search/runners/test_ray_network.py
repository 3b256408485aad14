"""A Ray cluster whose nodes have networks of their own, which the test cuts."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_processes import busy_workers, short_folder
from tiny_runs import faulty_space, records_of, trainings, wait_until

WAITING = (8, 6)
"""Depths of the schedules whose fine-tunes wait for the test."""

HEAD, HOME, WORKERS = "head", "home", ("left", "right")
"""The cluster's head, the node of the driver, and the nodes that have a CPU."""

QUICK_DEATH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
"""Ray takes a silent node for dead after 15 seconds at most; its default is about 65."""

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "cut networks" * 4}


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=check)
    return done.stdout


class Network:
    """Nodes in network namespaces, all on one bridge, which lies in a namespace too."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._prefix = f"schedsearch-{os.getpid()}"

    def __enter__(self) -> "Network":
        ip("netns", "add", self._name("hub"))
        self._hub("link", "add", "bridge", "type", "bridge")
        self._hub("link", "set", "bridge", "up")
        for number, node in enumerate((HEAD, HOME, *WORKERS), start=1):
            name, address = self._name(node), f"10.0.0.{number}"
            ip("netns", "add", name)
            self._hub("link", "add", node, "type", "veth", "peer", "name", "own", "netns", name)
            self._hub("link", "set", node, "master", "bridge", "up")
            ip("-n", name, "address", "add", f"{address}/24", "dev", "own")
            for interface in ("own", "lo"):
                ip("-n", name, "link", "set", interface, "up")
            where = ["--head", "--port", "6379", "--include-dashboard", "false"]
            if node != HEAD:
                where = ["--address", self.address]
            options = ["--num-cpus", str(int(node in WORKERS)), "--node-ip-address", address]
            ray = self.start(node, "ray.scripts.scripts", "start", *where, *options)
            assert ray.wait() == 0, ray
        return self

    def __exit__(self, *exc_info: object) -> None:
        for node in (HEAD, HOME, *WORKERS, "hub"):
            for pid in self.processes(node):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            ip("netns", "delete", self._name(node), check=False)

    address = "10.0.0.1:6379"

    def start(
        self, node: str, module: str, *argv: object, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a module on a node."""
        command = ["ip", "netns", "exec", self._name(node), sys.executable, "-m", module]
        with (log or Path(os.devnull)).open("ab") as stream:
            return subprocess.Popen(
                [*command, *map(str, argv)],
                stdout=stream,
                stderr=stream,
                env=self._environment,
            )

    def processes(self, node: str) -> set[int]:
        """Everything that runs on a node."""
        return {int(pid) for pid in ip("netns", "pids", self._name(node), check=False).split()}

    def cut(self, node: str) -> None:
        """Let nothing reach a node."""
        self._hub("link", "set", node, "down")

    def mend(self, node: str) -> None:
        """Connect a node again."""
        self._hub("link", "set", node, "up")

    def _hub(self, *words: str) -> None:
        ip("-n", self._name("hub"), *words)

    def _name(self, node: str) -> str:
        return f"{self._prefix}-{node}"


def _can_make_networks() -> bool:
    probe = f"schedsearch-{os.getpid()}-probe"
    bridge = ("link", "add", "bridge", "type", "bridge")
    try:
        ip("netns", "add", probe)
        ip("netns", "exec", probe, "ip", *bridge)
    except subprocess.CalledProcessError:
        return False
    finally:
        ip("netns", "delete", probe, check=False)
    return True


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the command ip")
    if not _can_make_networks():
        pytest.skip("this machine lets nobody make network namespaces with bridges")
    with short_folder() as temporary:
        path = {"RAY_TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
        environment = {**os.environ, **QUICK_DEATH, **TOKEN, **path}
        environment.pop("RAY_ADDRESS", None)
        with Network(environment) as nodes:
            yield nodes


@pytest.mark.slow
@pytest.mark.ray
def test_networks_are_cut(tmp_path: Path, network: Network) -> None:
    space = faulty_space(
        tmp_path,
        dict.fromkeys(WAITING, "waits_for_go"),
        warm_start=["full", *([depth] * 10 for depth in WAITING)],
        search={"n_trials": 4},
        resources={"backend": "ray", "num_workers": 1},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    words = ("run", space, "--output", run, "--address", network.address)
    driver = network.start(HOME, "schedsearch", *words, log=log)

    def node_at(depth: int, attempt: int = 1) -> str:
        """The node on which a fine-tune waits."""

        def waits() -> bool:
            begun = [depths[0] for depths in trainings(tmp_path)]
            return begun.count(depth) == attempt or driver.poll() is not None

        wait_until(waits, 400)
        assert driver.poll() is None, log.read_text()
        (node,) = (n for n in WORKERS if n not in cut and busy_workers(network.processes(n)))
        return node

    def go_on(depth: int) -> None:
        (tmp_path / "traces" / f"go_{depth}").touch()

    # A node is away for a moment: nothing is lost.
    cut: list[str] = []
    network.cut(node_at(8))
    time.sleep(4)
    network.mend(node_at(8))
    go_on(8)
    # A node stays away: its trial runs again on the other one.
    cut.append(node_at(6))
    network.cut(cut[0])
    assert node_at(6, attempt=2) != cut[0]
    assert "trial 1 interrupted" not in log.read_text()
    assert "trial 2 interrupted: the worker died; its schedule runs again" in log.read_text()
    # The driver is cut off.
    network.cut(HOME)
    since = time.monotonic()
    assert driver.wait(240) == 5, log.read_text()
    assert time.monotonic() - since < 60
    last = log.read_text().splitlines()[-1]
    assert last.startswith("schedsearch: Ray's GCS has not answered for"), last
    assert [(r.number, r.depths[0]) for r in records_of(run) if r.complete] == [(0, 10), (1, 8)]

    # The same command goes on once the network is back.
    network.mend(HOME)
    go_on(6)
    again = network.start(HEAD, "schedsearch", *words, log=log)
    assert again.wait(240) == 0, log.read_text()
    complete = [r for r in records_of(run) if r.complete]
    assert [r.depths[0] for r in complete[:3]] == [10, 8, 6]
    assert len({r.depths for r in complete}) == 4
    assert trainings(tmp_path).count((8,) * 10) == 1
