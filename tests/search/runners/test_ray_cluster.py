"""A Ray cluster of three nodes on this machine, and what each of them must have."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

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

from schedsearch.records import TrialRecord

WAITING = (8, 6, 4)
"""Depths of the schedules whose fine-tunes wait for the test."""

Numbers = dict[tuple[int, ...], tuple[float, float, float | None]]


def space_in(folder: Path) -> Path:
    return faulty_space(
        folder,
        dict.fromkeys(WAITING, "waits_for_go"),
        warm_start=["full", *([depth] * 10 for depth in WAITING)],
        search={"n_trials": 5},
        resources={"backend": "ray", "num_workers": 1},
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

    def wait_for(depth: int) -> None:
        """Wait until the fine-tune of a depth waits."""
        wait_until(
            lambda: (
                depth in [depths[0] for depths in trainings(tmp_path)] or not is_alive(driver.pid)
            ),
            400,
        )
        assert is_alive(driver.pid), log.read_text()

    def worker() -> int:
        (pid,) = busy_workers(children_of(cluster.pid))
        return pid

    # Kill a worker.
    wait_for(8)
    os.kill(worker(), signal.SIGKILL)
    go_on(tmp_path, 8)
    # Kill the node that runs a trial.
    wait_for(6)
    busy = worker()
    (raylet,) = (pid for pid in cluster.raylets if busy in children_of(pid))
    os.kill(raylet, signal.SIGKILL)
    go_on(tmp_path, 6)
    # Kill the head.
    wait_for(4)
    for pid in (cluster.gcs, cluster.raylets[0]):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert driver.wait() == 5, log.read_text()
    assert time.monotonic() - killed < 60
    go_on(tmp_path, 4)

    printed = log.read_text()
    assert "trial 1 interrupted: the worker died; its schedule runs again" in printed
    last = printed.splitlines()[-1]
    assert last.startswith("schedsearch: Ray's GCS has not answered for"), printed
    for word in ("raylet)", "Tune", "pid=", "Traceback", "Warning", "WARNING", ".cc:", ".h:"):
        assert word not in printed, printed
    assert len(numbers_of(run)) == 3

    # The same command goes on, and the run equals an undisturbed one.
    local = ("-o", "resources.backend=local")
    done = run_cli("run", space, *local, "--output", run)
    assert done.code == 0, done.err
    undisturbed = tmp_path / "undisturbed"
    done = run_cli("run", space, *local, "--output", undisturbed)
    assert done.code == 0, done.err
    assert len(numbers_of(run)) == 5
    assert numbers_of(run) == numbers_of(undisturbed)
