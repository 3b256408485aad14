"""Whole runs with real trainings: faults, kills and resumption (the promises of a run)."""

import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from safetensors.torch import load_file
from tiny_runs import (
    Done,
    children_of,
    faulty_space,
    only_once,
    records_of,
    run_cli,
    start_cli,
    trainings,
    wait_until,
    write_space,
)

from schedsearch.config import read_settings
from schedsearch.records import TrialJob, TrialRecord
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.trial_worker import run_trial

FLAT = {depth: [depth] * 10 for depth in range(1, 11)}


def optuna_trials(run: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{run / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)  # exactly one study
    return optuna.load_study(study_name=name, storage=storage).trials


def check_promises(run: Path, n_trials: int) -> None:
    """What holds after every run that ended with 0."""
    complete = [r for r in records_of(run) if r.complete]
    assert len({r.depths for r in complete}) == len(complete) == n_trials
    trials = optuna_trials(run)
    assert all(trial.state.is_finished() for trial in trials)
    told = [
        t.number
        for t in trials
        if t.state is OptunaState.COMPLETE and "duplicate_of" not in t.user_attrs
    ]
    assert told == sorted(r.number for r in complete)
    for record in complete:
        folder = run / "trials" / f"{record.number:04d}"
        assert TrialRecord.from_json((folder / "record.json").read_text()) == record
        for name in ("schedule.yaml", "samples.png", "log.txt", "ema.safetensors"):
            assert (folder / name).stat().st_size > 0
        assert not (folder / "progress.pt").exists()
    names = {path.name for path in run.iterdir()}
    assert {"space.yaml", "study.db", "results.jsonl", "front.yaml", "front.csv"} <= names
    assert {"driver.log", "artifacts", "trials", "latency.json", "front.png"} <= names
    assert not list(run.rglob("*.tmp"))


# ---- faults of trials -------------------------------------------------------------------------

FAULTS = {
    9: "killed_once_after_step_1",
    8: "raises",
    7: "nan_loss",
    6: "nan_model",
    5: "killed",
    4: "out_of_memory_once",
}


@pytest.fixture(scope="module")
def faulty_run(shared_folder: Path) -> Path:
    """A run in which most things go wrong; its folder holds ``run`` and what was printed."""
    with only_once(shared_folder, "faulty") as (folder, is_new):
        if is_new:
            space = faulty_space(
                folder,
                FAULTS,
                warm_start=["full", *(FLAT[depth] for depth in FAULTS)],
                search={"n_trials": 7, "max_retries": 1},
            )
            done = run_cli("run", space, "--output", folder / "run")
            (folder / "done.json").write_text(json.dumps([done.code, done.out, done.err]))
        return folder


def how_it_ended(folder: Path) -> Done:
    return Done(*json.loads((folder / "done.json").read_text()))


def of_depth(folder: Path, depth: int) -> list[TrialRecord]:
    return [r for r in records_of(folder / "run") if r.depths == (depth,) * 10]


@pytest.mark.slow
class TestFaults:
    def test_failures_never_stop_the_run(self, faulty_run: Path) -> None:
        done = how_it_ended(faulty_run)
        assert done.code == 3
        assert "4 schedule(s) ended without a result" in done.out
        check_promises(faulty_run / "run", 7)
        failed = [r for r in records_of(faulty_run / "run") if not r.complete]
        assert {r.depths[0] for r in failed} == {8, 7, 6, 5}
        for record in failed:
            trial = optuna_trials(faulty_run / "run")[record.number]
            assert trial.state is OptunaState.FAIL
            assert trial.user_attrs["reason"] == record.reason
            assert trial.user_attrs["stage"] == record.stage
            assert f"trial {record.number} failed in {record.stage}" in done.err
        assert "Traceback" not in done.out + done.err

    def test_an_error_has_its_stage_its_reason_and_a_log(self, faulty_run: Path) -> None:
        (record,) = of_depth(faulty_run, 8)
        assert (record.stage, record.reason) == ("fine-tune", "RuntimeError: the trainer broke")
        log = (faulty_run / "run" / "trials" / f"{record.number:04d}" / "log.txt").read_text()
        assert "Traceback" in log
        assert "faulty_trainers.py" in log

    def test_a_loss_that_is_not_finite_names_its_step(self, faulty_run: Path) -> None:
        (record,) = of_depth(faulty_run, 7)
        assert record.stage == "fine-tune"
        assert record.reason is not None
        assert "nan at step 1 of 2" in record.reason

    def test_samples_that_are_not_finite(self, faulty_run: Path) -> None:
        (record,) = of_depth(faulty_run, 6)
        assert record.stage == "sample"
        assert record.reason is not None
        assert "64 of 64 samples are not finite" in record.reason
        assert record.stage_seconds["fine-tune"] > 0
        assert "sample" in record.stage_seconds

    def test_a_worker_that_always_dies_is_given_up(self, faulty_run: Path) -> None:
        (record,) = of_depth(faulty_run, 5)
        assert record.stage == "worker"
        assert record.reason == "the worker was killed by signal 9; gave up after 2 attempts"
        assert trainings(faulty_run).count((5,) * 10) == 2

    def test_a_worker_that_dies_once_costs_nothing(self, faulty_run: Path) -> None:
        (record,) = of_depth(faulty_run, 9)
        assert record.complete
        trials = optuna_trials(faulty_run / "run")
        first = trials[trials[record.number].user_attrs["retry_of"]]
        assert first.state is OptunaState.FAIL
        assert first.user_attrs["interrupted"] is True
        assert first.user_attrs["reason"] == "the worker was killed by signal 9"
        assert "stage" not in first.user_attrs

    def test_memory_is_tried_again(self, faulty_run: Path) -> None:
        (record,) = of_depth(faulty_run, 4)
        assert record.complete
        assert trainings(faulty_run).count((4,) * 10) == 2

    def test_a_retry_continues_and_equals_an_undisturbed_run(
        self, faulty_run: Path, tmp_path: Path
    ) -> None:
        (record,) = of_depth(faulty_run, 9)
        folder = faulty_run / "run" / "trials" / f"{record.number:04d}"
        assert "resumed after step 1 of 2" in (folder / "log.txt").read_text()
        settings = (faulty_run / "run" / "space.yaml").read_text()
        job = TrialJob(
            number=0,
            depths=record.depths,
            label=None,
            settings=settings.replace("killed_once_after_step_1", "raises_once"),
            run_dir=str(tmp_path / "run"),
            predicted_latency_ms=record.evaluation.latency_ms,  # type: ignore[union-attr]
            measure_latency=False,
        )
        undisturbed = run_trial(job)  # the trace of the fault says: not the first time
        assert undisturbed.evaluation == record.evaluation
        assert undisturbed.final_loss == record.final_loss
        expected = load_file(tmp_path / "run" / "trials" / "0000" / "ema.safetensors")
        actual = load_file(folder / "ema.safetensors")
        assert expected.keys() == actual.keys()
        assert all(expected[name].equal(actual[name]) for name in expected)


@pytest.mark.slow
def test_no_complete_trial_exits_4(tmp_path: Path) -> None:
    space = faulty_space(tmp_path, {0: "raises"}, warm_start=["full"], search={"n_trials": 2})
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 4
    assert "2 schedule(s) ended without a result" in done.out
    assert run_cli("front", tmp_path / "run").code == 4
    assert run_cli("pick", tmp_path / "run", "--knee").code == 4
    assert run_cli("status", tmp_path / "run").code == 0
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_full_disk_exits_5_and_resumes(tmp_path: Path) -> None:
    space = faulty_space(
        tmp_path, {9: "disk_full_once"}, warm_start=["full", FLAT[9]], search={"n_trials": 2}
    )
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 5
    assert len(done.err.splitlines()[-1]) > 0
    assert "Free space and run the same command again" in done.err.splitlines()[-1]
    assert [r.label for r in records_of(tmp_path / "run")] == ["full"]
    assert run_cli("run", space, "--output", tmp_path / "run").code == 0
    check_promises(tmp_path / "run", 2)
    assert trainings(tmp_path).count((10,) * 10) == 1


@pytest.mark.slow
def test_an_exhausted_space_exits_0_and_says_so(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        space={"num_intervals": 3, "min_depth": 9, "max_depth": 10},
        warm_start=[[10, 10, 10], [10, 9, 9]],
        solver={"num_steps": 2},  # calls in the intervals 2 and 1: three look different
        search={"n_trials": 6},
    )
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 0, done.err
    assert "The space is exhausted" in done.out
    check_promises(tmp_path / "run", 3)
    again = run_cli("run", space, "--output", tmp_path / "run")
    assert again.code == 0
    assert len(records_of(tmp_path / "run")) == 3


# ---- deaths of the driver ---------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def check_kept(run: Path, kept: list[TrialRecord], began: list[tuple[int, ...]]) -> None:
    """Nothing recorded is lost, changed or trained again."""
    assert records_of(run)[: len(kept)] == kept
    assert not {r.depths for r in kept if r.complete} & set(began)


@pytest.mark.slow
def test_kill_9_of_the_driver_again_and_again(tmp_path: Path) -> None:
    space = faulty_space(
        tmp_path,
        {0: "takes_half_a_second"},
        warm_start=["full", "D2-DiT", "D3-DiT"],
        search={"n_trials": 6},
        resources={"num_workers": 2},
    )
    run = tmp_path / "run"
    kept: list[TrialRecord] = []
    for lines, stop in ((1, signal.SIGKILL), (3, signal.SIGKILL), (4, signal.SIGTERM)):
        # A log for each start: Python's own start of a worker whose driver is killed in the midst
        # of it shows a traceback that no code of ours could prevent.
        log = tmp_path / f"log{lines}.txt"
        began = len(trainings(tmp_path))
        driver = start_cli("run", space, "--output", run, log=log)
        pid = driver.pid
        wait_until(  # the lines may stand there already, from the start before
            lambda n=lines, p=pid: len(records_of(run)) >= n and len(children_of(p)) >= 2  # type: ignore[misc]
        )
        workers = children_of(pid)
        os.kill(driver.pid, stop)
        code = driver.wait(timeout=240)
        assert code == (-signal.SIGKILL if stop == signal.SIGKILL else 130), log.read_text()
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
    text = space.read_text().replace("depth_9: hangs", "depth_9: raises_once")
    (tmp_path / "traces" / "depth_9.fault").touch()  # no fault any more
    # The fault is part of the space, so the stored one changes too, as an editor would do it.
    space.write_text(text)
    stored = run / "space.yaml"
    stored.write_text(stored.read_text().replace("depth_9: hangs", "depth_9: raises_once"))
    assert run_cli("run", space, "--output", run).code == 0
    check_promises(run, 2)


# ---- resuming a finished run ------------------------------------------------------------------


def test_a_finished_run_keeps_its_promises(complete_run: Path) -> None:
    check_promises(complete_run, 7)
    folder = RunFolder(complete_run)
    assert read_settings(complete_run.parent / "space.yaml", []).search.n_trials == 7
    assert not folder.has_live_driver()
    printed = (complete_run.parent / "out.txt").read_text()
    assert "Pareto front of tiny" in printed
    assert "Hypervolume" in printed
    assert "schedsearch export" in printed


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("recipe.lr=1.0e-3", "recipe.lr"),
        ("space.min_depth=3", "space.min_depth"),
        ("search.seed=1", "search.seed"),
        ("evaluation.num_samples=65", "evaluation.num_samples"),
        ("name=other", "name"),
    ],
)
def test_another_space_exits_2_and_names_the_keys(
    complete_run: Path, override: str, key: str
) -> None:
    before = (complete_run / "space.yaml").read_text()
    space = complete_run.parent / "space.yaml"
    for more in ((), ("--dry-run",)):
        done = run_cli("run", space, "-o", override, "--output", complete_run, *more)
        assert done.code == 2
        assert f"these keys differ: {key}." in done.err
        assert len([line for line in done.err.splitlines() if line]) <= 2
    assert (complete_run / "space.yaml").read_text() == before


@pytest.mark.slow
def test_a_larger_number_of_trials_goes_on_without_the_study(run_copy: Path) -> None:
    """More trials, other resources, and a study that is rebuilt on the way."""
    before = records_of(run_copy)
    (run_copy / "study.db").unlink()
    space = run_copy.parent / "space.yaml"
    overrides = ("-o", "search.n_trials=8", "-o", "resources.num_workers=1")
    done = run_cli("run", space, *overrides, "--output", run_copy)
    assert done.code == 0, done.err
    assert "resuming with 7 finished trials" in done.err
    after = records_of(run_copy)
    assert after[:7] == before
    check_promises(run_copy, 8)
    assert read_settings(run_copy / "space.yaml", []).search.n_trials == 8


@pytest.mark.parametrize("damaged", ["study.db", "results.jsonl", "latency.json"])
def test_a_damaged_file_exits_5_in_one_line(run_copy: Path, damaged: str) -> None:
    path = run_copy / damaged
    if damaged == "results.jsonl":
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + lines[1][:50] + b"\n" + b"".join(lines[2:]))
    else:
        path.write_bytes(b"damaged " * 1000)
    before = path.read_bytes()
    done = run_cli("-q", "run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert done.code == 5
    assert len(done.err.splitlines()) == 1
    assert ("results.jsonl:2:" if damaged == "results.jsonl" else damaged) in done.err
    assert path.read_bytes() == before


def test_results_without_their_space_are_refused(run_copy: Path) -> None:
    (run_copy / "space.yaml").unlink()
    done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert done.code == 5
    assert "holds results but no space.yaml" in done.err


def test_a_storage_of_ones_own(tmp_path: Path, run_copy: Path) -> None:
    """A study in another database, rebuilt there from the record."""
    for file in (run_copy.parent / "space.yaml", run_copy / "space.yaml"):
        text = file.read_text()
        url = f"sqlite:///{tmp_path / 'other.db'}"
        if "storage: null" in text:
            text = text.replace("storage: null", f"storage: {url}")
        else:
            text = text.replace("search:\n", f"search:\n  storage: {url}\n")
        file.write_text(text)
    (run_copy / "study.db").unlink()
    done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert done.code == 0, done.err
    assert not (run_copy / "study.db").exists()
    (name,) = optuna.get_all_study_names(url)
    study: Any = optuna.load_study(study_name=name, storage=url)
    assert sum(t.state is OptunaState.COMPLETE for t in study.trials) == 7
    assert "done:         7 of 7" in run_cli("status", run_copy).out
    shutil.rmtree(run_copy)
