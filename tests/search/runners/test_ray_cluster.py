"""A Ray cluster of three nodes on this machine, and what each of them must have."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from forks import ForkedCli
from ray_processes import ThreeNodes, busy_workers, short_folder
from tiny_runs import (
    children_of,
    faulty_space,
    is_alive,
    records_of,
    run_cli,
    trainings,
    wait_until,
)

from schedsearch.exceptions import ConfigError
from schedsearch.records import TrialRecord
from schedsearch.workers.jobs import DISK_STAGE, Job

WAITING = (8, 6)
"""Depths of the schedules whose fine-tunes wait for the test."""

Numbers = dict[tuple[int, ...], tuple[float, float, float | None]]


def space_in(folder: Path) -> Path:
    return faulty_space(
        folder,
        dict.fromkeys(WAITING, "waits_for_go"),
        warm_start=["full", *([depth] * 10 for depth in WAITING)],
        search={"n_trials": 4},
        resources={"backend": "ray", "num_workers": 1, "accelerator": "T4"},
    )


def go_on(folder: Path, *depths: int) -> None:
    for depth in depths:
        (folder / "traces" / f"go_{depth}").touch()


def numbers_of(run: Path) -> Numbers:
    """What the complete trials of a run measured, by schedule."""
    return {record.depths: _numbers(record) for record in records_of(run) if record.complete}


def _numbers(record: TrialRecord) -> tuple[float, float, float | None]:
    assert record.evaluation is not None
    return record.evaluation.fid, record.evaluation.kid, record.final_loss


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreeNodes]:
    with short_folder() as temporary:
        monkeypatch.setenv("RAY_TMPDIR", str(temporary))
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "three nodes" * 4)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with ThreeNodes(tmp_path) as nodes:
            yield nodes


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_a_node_and_the_head_are_lost(tmp_path: Path, cluster: ThreeNodes) -> None:
    space, run, log = space_in(tmp_path), tmp_path / "run", tmp_path / "log.txt"
    driver = ForkedCli("run", space, "--output", run, "--address", cluster.address, log=log)

    def worker_at(depth: int, attempt: int = 1) -> int:
        """The worker of a fine-tune that waits."""

        def waits() -> bool:
            begun = [depths[0] for depths in trainings(tmp_path)]
            return begun.count(depth) == attempt or not is_alive(driver.pid)

        wait_until(waits, 400)
        assert is_alive(driver.pid), log.read_text()
        (pid,) = busy_workers(children_of(cluster.pid))
        return pid

    # A worker dies; its trial runs again after the others.
    os.kill(worker_at(8), signal.SIGKILL)
    go_on(tmp_path, 8)
    # The node of a trial dies; its trial waits again, on the other node.
    worker = worker_at(6)
    (node,) = (pid for pid in cluster.raylets if worker in children_of(pid))
    for pid in (node, worker):
        os.kill(pid, signal.SIGKILL)
    worker = worker_at(6, attempt=2)
    (other,) = (pid for pid in cluster.raylets if worker in children_of(pid))
    assert {node, other} == set(cluster.raylets[1:])  # the head is of another kind
    # The head dies.
    for pid in (cluster.gcs, cluster.raylets[0]):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert driver.wait() == 5, log.read_text()
    assert time.monotonic() - killed < 60
    go_on(tmp_path, 6)

    printed = log.read_text()
    for number in (1, 2):
        again = f"trial {number} interrupted: the worker died; its schedule runs again"
        assert again in printed, printed
    last = printed.splitlines()[-1]
    assert last.startswith("schedsearch: Ray's GCS has not answered for"), printed
    for word in ("raylet)", "Tune", "pid=", "Traceback", "Warning", "WARNING", ".cc:", ".h:"):
        assert word not in printed, printed
    assert [depths[0] for depths in numbers_of(run)] == [10, 8]

    # The same command goes on, and the run equals an undisturbed one.
    local = ("-o", "resources.backend=local", "-o", "resources.accelerator=null")
    done = run_cli("run", space, *local, "--output", run)
    assert done.code == 0, done.err
    undisturbed = tmp_path / "undisturbed"
    done = run_cli("run", space, *local, "--output", undisturbed)
    assert done.code == 0, done.err
    assert len(numbers_of(run)) == 4
    assert numbers_of(run) == numbers_of(undisturbed)


@pytest.mark.ray
def test_a_machine_without_room_for_a_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from schedsearch.search.runners import ray_cluster

    has = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:T4": 1.0, "memory": 1e9}
    machine = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": has}])
    monkeypatch.setattr(ray_cluster, "ray", machine)
    ray_cluster.check_room({"CPU": 4, "accelerator_type:T4": 0.001})
    message = (
        "A job needs 1 CPU, accelerator H100, but Ray finds 4 CPU, 1 GPU, accelerator T4 on this "
        "machine. Lower resources.cpus_per_trial or gpus_per_trial, or change "
        "resources.accelerator."
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        ray_cluster.check_room({"CPU": 1, "accelerator_type:H100": 0.001})


# ---- what every node must have ------------------------------------------------------------------


class FakeRay:
    """A cluster of this node and another one, which answers ``answer``."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def get_runtime_context(self) -> "FakeRay":
        return self

    def get_node_id(self) -> str:
        return "own"

    def nodes(self) -> list[dict[str, object]]:
        return [
            {"NodeID": name, "NodeManagerAddress": f"host-{name}", "Alive": alive}
            for name, alive in (("own", True), ("other", True), ("gone", False))
        ]

    def remote(self, *arguments: object, **options: object) -> "FakeRay":
        return self

    options = __call__ = remote

    def get(self, view: object, timeout: float) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "there", "message"),
    [
        ("lock", "missing", "lock is missing on host-other and a file of 2 bytes"),
        ("data", "missing", "data is missing on host-other and a folder here"),
        ("the version of torch", "1.0", "the version of torch is 1.0 on host-other"),
    ],
)
def test_a_node_that_lacks_something_is_refused_before_any_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, there: str, message: str
) -> None:
    from schedsearch.search.runners import ray_cluster

    (tmp_path / "lock").write_text("{}")
    (tmp_path / "data").mkdir()
    paths = [str(tmp_path / "lock"), str(tmp_path / "data")]
    same = ray_cluster.look(paths)
    monkeypatch.setattr(ray_cluster, "ray", FakeRay(same))
    monkeypatch.setattr(ray_cluster, "NodeAffinitySchedulingStrategy", lambda *_, **__: None)
    ray_cluster.check_nodes(paths)
    (key,) = (key for key in same if key.endswith(name))
    monkeypatch.setattr(ray_cluster, "ray", FakeRay({**same, key: there}))
    with pytest.raises(ConfigError, match=message):
        ray_cluster.check_nodes(paths)


@pytest.mark.ray
def test_a_node_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from schedsearch.search.runners import ray_cluster

    lacking = FakeRay(RuntimeError("Traceback:\n  File x\nNo module named 'schedsearch'"))
    monkeypatch.setattr(ray_cluster, "ray", lacking)
    monkeypatch.setattr(ray_cluster, "NodeAffinitySchedulingStrategy", lambda *_, **__: None)
    with pytest.raises(ConfigError, match=r"node host-other .* cannot run jobs: No module"):
        ray_cluster.check_nodes([])


@pytest.mark.ray
def test_a_file_is_told_from_another_of_the_same_size(tmp_path: Path) -> None:
    from schedsearch.search.runners.ray_cluster import look

    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(3 * 2**20))
    before = look([str(path)])
    path.write_bytes(bytes(3 * 2**20 - 1) + b"1")
    assert look([str(path)]) != before


@pytest.mark.ray
def test_a_job_on_a_node_without_the_run_folder_ends_the_run(tmp_path: Path) -> None:
    from schedsearch.search.runners.ray_tune import lacking

    job = Job(settings="", run_dir=str(tmp_path))
    failed = lacking(job)
    assert failed is not None
    assert failed.stage == DISK_STAGE
    assert f"does not see {tmp_path}" in failed.reason
    (tmp_path / "driver.lock").touch()
    assert lacking(job) is None
