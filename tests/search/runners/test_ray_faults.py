"""Ray's daemons die, or the environment belongs to something else: one sentence, and soon."""

import os
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray_processes import ForkedDriver, daemons_of, program_of, short_folder
from tiny_runs import children_of, is_alive, wait_until, write_space

from schedsearch.cli.main import main
from schedsearch.exceptions import ConfigError
from schedsearch.search.runners.ray_environment import (
    check_temporary_folder,
    forget_other_clusters,
)
from schedsearch.settings import ResourceSettings
from schedsearch.workers.jobs import Job, Outcome


class OneJob:
    """A source of one job, which comes back when its worker dies."""

    def __init__(self) -> None:
        self.left = 1

    def next_job(self) -> Job | None:
        self.left -= 1
        return None if self.left < 0 else Job(settings="", run_dir="")

    def finish(self, job: Job, outcome: Outcome) -> None:
        self.left = 1


def drive(folder: Path, temporary: Path) -> None:
    """Run a job that never ends, on a private runtime in an environment full of traps."""
    os.environ.update(FOREIGN, RAY_TMPDIR=str(temporary))
    forget_other_clusters()
    import ray

    from schedsearch.search.runners import ray_tune

    def sleep(config: dict[str, Any]) -> None:
        (folder / "started").touch()
        time.sleep(600)

    ray_tune._trainable = sleep
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    resources, log = ResourceSettings(), folder / "driver.log"
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with ray_tune.RayRunner(resources, folder=folder / "ray", log_file=log) as runner:
        assert signal.getsignal(signal.SIGTERM) == on_sigterm  # Ray's ends with code 15
        runner.run(OneJob())


FOREIGN = {
    "HOME": "/proc/nobody",
    "RAY_ADDRESS": "ray://10.255.255.1:10001",
    "RAY_AUTH_MODE": "disabled",
    "RAY_AUTH_TOKEN": "",
    "RAY_AUTH_TOKEN_PATH": "/nowhere/token",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": "no JSON",
    "RAY_LOG_TO_STDERR": "1",
    "RAY_NAMESPACE": "theirs",
    "RAY_REDIS_ADDRESS": "10.255.255.1:6379",
    "RAY_RUNTIME_ENV_HOOK": "no.such.hook",
}
"""What a job of another cluster, or a container without a home folder, finds."""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("daemon", ["raylet", "gcs_server"])
def test_a_lost_daemon_ends_the_run_with_one_sentence(tmp_path: Path, daemon: str) -> None:
    log = tmp_path / "log.txt"
    with short_folder() as temporary:
        driver = ForkedDriver(partial(drive, tmp_path, temporary), log)
        wait_until(lambda: (tmp_path / "started").exists() or not is_alive(driver.pid))
        below = children_of(driver.pid)
        (pid,) = daemons_of(driver.pid, daemon)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        assert driver.wait() == 5, log.read_text()
        assert time.monotonic() - killed < 60
        (line,) = log.read_text().splitlines()
        assert line.startswith(f"schedsearch: Ray's {daemon} has died. Finished trials are kept: ")
        assert line.endswith("-o resources.backend=local.")
        # Ray's agents notice it by themselves, a minute later.
        others = [child for child in below if not program_of(child).endswith("Agent")]
        wait_until(lambda: not any(map(is_alive, others)), 30)


def test_a_call_that_does_not_return_ends_with_one_sentence(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"

    def hang() -> None:
        from schedsearch.search.runners.ray_watch import time_limit

        with time_limit(0.1, "Ray is late."):
            time.sleep(60)

    assert ForkedDriver(hang, log).wait() == 5
    assert log.read_text() == "schedsearch: Ray is late.\n"


# ---- what the watch makes of the cluster's state ------------------------------------------------

OWN, OTHER = b"own", b"other"


@dataclass(frozen=True)
class NodeID:
    """A node's id as Ray has it."""

    name: bytes

    def binary(self) -> bytes:
        return self.name


class Gcs:
    """Answers as the GCS does; None does not answer."""

    def __init__(self, nodes: dict[bytes, dict[str, float]] | None) -> None:
        self.nodes = nodes

    def get_all_node_info(self, timeout: float) -> dict[Any, Any]:
        if self.nodes is None:
            raise TimeoutError("no answer")
        return {
            NodeID(key): SimpleNamespace(state=0, resources_total=resources)
            for key, resources in self.nodes.items()
        }


T4 = {"accelerator_type:T4": 1.0}


@pytest.mark.ray
@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ({OWN: {"CPU": 1.0, "GPU": 1.0, **T4}}, None),
        ({OWN: {}, OTHER: {"CPU": 8.0, "GPU": 4.0, **T4}}, None),
        ({OTHER: {"CPU": 8.0, "GPU": 4.0, **T4}}, "The raylet of the driver's node is lost"),
        ({OWN: {"CPU": 8.0, **T4}}, "No node .* room .*\\(1 CPU, 0.5 GPU, accelerator T4\\) for"),
        ({OWN: {"CPU": 8.0, "GPU": 4.0}}, "No node .* room for a job .*accelerator T4"),
        (None, "Ray's GCS has not answered for"),
    ],
)
def test_what_counts_as_a_loss(
    monkeypatch: pytest.MonkeyPatch, nodes: dict[bytes, dict[str, float]] | None, sentence: str
) -> None:
    from schedsearch.search.runners import ray_watch

    for name in ("SILENT_SECONDS", "ROOM_SECONDS", "SCALING_SECONDS"):
        monkeypatch.setattr(ray_watch, name, -1.0)
    worker = SimpleNamespace(gcs_client=Gcs(nodes), current_node_id=NodeID(OWN))
    monkeypatch.setattr(f"{ray_watch.__name__}.ray_worker.global_worker", worker)
    loss = ray_watch.RayWatch({"CPU": 1, "GPU": 0.5, "accelerator_type:T4": 0.001}).find_loss()
    assert (loss is None) if sentence is None else re.match(sentence, str(loss))


# ---- the environment ----------------------------------------------------------------------------


def test_variables_of_another_cluster_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**FOREIGN, "RAY_TMPDIR": "/t", "RAY_memory_usage": "0.9"})
    forget_other_clusters()
    left = os.environ
    assert (left["RAY_TMPDIR"], left["RAY_memory_usage"], left["RAY_AUTH_MODE"]) == (
        "/t", "0.9", "token",
    )  # fmt: skip
    assert len(left["RAY_AUTH_TOKEN"]) == 64
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_NAMESPACE"} & set(left)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("/tmp/" + "slurm_job_dir_" * 7, "at most 39 bytes"), ("/proc/none", "can write")],
)
def test_a_temporary_folder_that_ray_cannot_use(
    monkeypatch: pytest.MonkeyPatch, name: str, folder: str, reason: str
) -> None:
    monkeypatch.setattr(os, "environ", {name: folder})
    monkeypatch.setattr(os, "getpid", lambda: 4194304)
    with pytest.raises(
        ConfigError, match=rf"{name}={folder}.* -o resources\.backend=local"
    ) as error:
        check_temporary_folder()
    assert reason in str(error.value)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "timed out"), (b"HTTP/1.1 400 Bad", "no Ray cluster"), (b"", "no Ray cluster")],
)
def test_something_else_at_the_address(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, reason: str
) -> None:
    from schedsearch.search.runners import ray_cluster

    monkeypatch.setattr(ray_cluster, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("", 0)) as server:  # Ray replaces 127.0.0.1 by another address
        server.settimeout(10)

        def serve() -> None:
            link, _ = server.accept()
            with link:
                if answer is None:
                    time.sleep(2)
                else:
                    link.recv(100)
                    link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ConfigError, match=reason):
            ray_cluster.check_address(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "TMPDIR=/tmp/slurm"),
        (("--dry-run",), "TMPDIR=/tmp/slurm"),
        (("--address", "127.0.0.1:1"), "Cannot join the Ray cluster at 127.0.0.1:1: "),
        (("--address", "ray://127.0.0.1:1"), "a Ray client cannot drive a search"),
        (("--address", "local"), "no cluster runs on this machine"),
    ],
)
def test_it_is_found_before_anything_is_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    reason: str,
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/slurm" + "/job" * 20)
    space = write_space(tmp_path, resources={"backend": "ray"})
    assert main(["run", str(space), "--output", str(tmp_path / "run"), "-q", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
def test_a_foreign_token_is_named_and_the_terminal_stays_quiet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from schedsearch.search.runners import ray_start

    def init(**_where: object) -> None:
        os.write(2, b"[W] gcs_client.cc:210: RPC error: InvalidAuthToken: missing or incorrect")
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConfigError, match=r"at 10\.0\.0\.1:1: its token is another one than"):
        ray_start.join_cluster("10.0.0.1:1")
    assert capfd.readouterr().err == ""
