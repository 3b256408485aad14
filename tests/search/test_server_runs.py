"""Whole runs whose study lies on a real server."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy
from database_rows import rows_of
from forks import ForkedCli
from gateway import Gateway
from tiny_runs import (
    children_of,
    faulty_space,
    is_alive,
    records_of,
    run_cli,
    trainings,
    wait_until,
)
from whole_runs import FLAT, check_promises, optuna_trials

from schedsearch.records import TrialRecord


def files_with(root: Path, word: str) -> list[Path]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in files if word.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_run_outlives_its_driver_and_its_server(database: str, tmp_path: Path) -> None:
    """Killed after one trial; then the server goes away; then the run ends as if undisturbed."""
    server = sqlalchemy.make_url(database)
    assert server.host is not None
    assert server.port is not None
    gateway = Gateway(server.host, server.port)
    url = server.set(port=gateway.port).render_as_string(hide_password=False)
    space = faulty_space(
        tmp_path,
        {3: "takes_half_a_second", 4: "takes_half_a_second"},
        warm_start=[FLAT[2], FLAT[3], FLAT[4]],
        space={"max_depth": 4},
        search={"n_trials": 4, "storage": url},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    with gateway:
        driver = ForkedCli("run", space, "--output", run, log=log)
        wait_until(lambda: (3,) * 10 in trainings(tmp_path))
        workers = children_of(driver.pid)
        os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        wait_until(lambda: not any(map(is_alive, workers)))
        kept = records_of(run)
        before = rows_of(database)
        assert "interrupted:  1 (trials 1)" in run_cli("status", run).out
        assert rows_of(database) == before

        driver = ForkedCli("run", space, "--output", run, log=log)
        wait_until(lambda: (4,) * 10 in trainings(tmp_path))
    assert driver.wait() == 5, log.read_text()
    last = log.read_text().splitlines()[-1]
    assert last.startswith("schedsearch: The study 'tiny' cannot be read or written: ")
    assert "Start its database" in last
    status = run_cli("status", run)
    assert status.code == 5
    assert status.err.count("\n") == 1
    with gateway:
        done = run_cli("run", space, "--output", run)
        assert done.code == 0, done.err
        check_promises(run, 4)
        told = {t.number: t.values for t in optuna_trials(run) if t.values}
    for record in records_of(run):
        assert record.evaluation is not None
        assert told[record.number] == list(record.evaluation.values)
    assert records_of(run)[: len(kept)] == kept
    check_counts(trainings(tmp_path), kept)

    printed = log.read_text() + status.err + done.out + done.err
    assert "Traceback" not in printed
    encoded = url.split(":")[2].split("@")[0]
    for password in (encoded, str(server.password)):
        assert password not in printed
        assert password not in str(rows_of(database))
    assert files_with(run, encoded) == [run / "space.yaml"]
    assert (run / "space.yaml").stat().st_mode & 0o777 == 0o600


def check_counts(began: list[tuple[int, ...]], kept: list[TrialRecord]) -> None:
    """What was recorded before a fault ran once, and the interrupted ones at most twice."""
    counts = Counter(began)
    assert all(counts[record.depths] == 1 for record in kept)
    assert max(counts.values()) <= 2
