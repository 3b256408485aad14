"""Whole runs whose driver is killed or interrupted, and their resumption."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from forks import ForkedCli, start_cli
from tiny_runs import (
    children_of,
    faulty_space,
    is_alive,
    records_of,
    run_cli,
    trainings,
    wait_until,
)
from whole_runs import FLAT, check_promises, mend, optuna_trials

from schedsearch.records import TrialRecord


def check_kept(run: Path, kept: list[TrialRecord], began: list[tuple[int, ...]]) -> None:
    """Nothing recorded is lost, changed or trained again."""
    assert records_of(run)[: len(kept)] == kept
    assert not {r.depths for r in kept if r.complete} & set(began)


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    space = faulty_space(
        tmp_path,
        {},
        warm_start=["full", "D2-DiT", "D3-DiT"],
        profile={"num_images": 4},
        search={"n_trials": 6, "dp_seeds": 1},
        resources={"num_workers": 2},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    kept: list[TrialRecord] = []
    for reached, stop in (
        (lambda: (run / "profile" / "made_from.json").exists(), signal.SIGKILL),
        (lambda: len(records_of(run)) >= 1, signal.SIGKILL),
        (lambda: len(records_of(run)) >= 3, signal.SIGTERM),
    ):
        began = len(trainings(tmp_path))
        driver = ForkedCli("run", space, "--output", run, log=log)
        wait_until(lambda d=driver, r=reached: r() and len(children_of(d.pid)) >= 2)  # type: ignore[misc]
        workers = children_of(driver.pid)
        os.kill(driver.pid, stop)
        assert driver.wait() == (-stop if stop == signal.SIGKILL else 130), log.read_text()
        wait_until(lambda w=workers: not any(map(is_alive, w)))  # type: ignore[misc]
        check_kept(run, kept, trainings(tmp_path)[began:])
        kept = records_of(run)
    began = len(trainings(tmp_path))
    assert run_cli("run", space, "--output", run).code == 0
    check_kept(run, kept, trainings(tmp_path)[began:])
    check_promises(run, 6)
    counts = Counter(trainings(tmp_path))
    interrupted = Counter(
        tuple(t.user_attrs["depths"])
        for t in optuna_trials(run)
        # A trial that was killed before it had a schedule has none to run again.
        if "interrupted" in t.user_attrs and "depths" in t.user_attrs
    )
    for record in records_of(run):
        assert counts[record.depths] <= 1 + interrupted[record.depths]
    assert "Traceback" not in log.read_text()
    assert "The same command resumes" in log.read_text()


@pytest.mark.slow
def test_ctrl_c_exits_130_and_resumes(tmp_path: Path) -> None:
    """A command in its own process group, with workers that start Python themselves."""
    space = faulty_space(
        tmp_path, {9: "hangs"}, warm_start=["full", FLAT[9]], search={"n_trials": 2}
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    driver = start_cli("run", space, "--output", run, log=log)
    wait_until(lambda: (9,) * 10 in (trainings(tmp_path) if records_of(run) else []))
    assert "driver:       at work" in run_cli("status", run).out
    assert "running:      1 (trials 1)" in run_cli("status", run).out
    second = run_cli("run", space, "--output", run)
    assert second.code == 5
    assert f"in use by process {driver.pid} on " in second.err
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the whole group
    assert driver.wait(timeout=240) == 130
    assert "Traceback" not in log.read_text()
    status = run_cli("status", run).out
    assert "driver:       not running" in status
    assert "interrupted:  1 (trials 1)" in status
    mend("hangs", space, run)
    assert run_cli("run", space, "--output", run).code == 0
    check_promises(run, 2)
    assert trainings(tmp_path).count((10,) * 10) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_trial_continues_from_the_step_it_stopped_at(
    tmp_path: Path, number: signal.Signals
) -> None:
    space = faulty_space(
        tmp_path,
        {},
        warm_start=["full"],
        search={"n_trials": 1},
        recipe={"num_steps": 120, "save_every": 100_000, "batch_size": 16},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    driver = ForkedCli("run", space, "--output", run, log=log)
    first = run / "trials" / "0000" / "log.txt"
    wait_until(lambda: first.exists() and "step=3 " in first.read_text())
    os.kill(driver.pid, number)
    assert driver.wait() == 130, log.read_text()
    assert (run / "trials" / "0000" / "progress.pt").is_file()
    assert "its state is kept" in first.read_text()
    assert not (run / ".stop").exists()
    assert "Traceback" not in log.read_text()
    assert run_cli("run", space, "--output", run).code == 0
    check_promises(run, 1)
    (record,) = records_of(run)
    text = (run / "trials" / f"{record.number:04d}" / "log.txt").read_text()
    assert "resumed after step " in text
    assert "step=3 " not in text
