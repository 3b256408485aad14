"""Whole runs in which trials fail: errors, losses, dead workers, a full disk."""

import json
from pathlib import Path

import pytest
from optuna.trial import TrialState as OptunaState
from tiny_runs import (
    Done,
    faulty_space,
    only_once,
    records_of,
    run_cli,
    same_weights,
    trainings,
)
from whole_runs import FLAT, check_promises, optuna_trials

from schedsearch.records import TrialRecord
from schedsearch.workers.jobs import TrialJob
from schedsearch.workers.trial import run_trial

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
        check_promises(faulty_run / "run", 7)
        failed = [r for r in records_of(faulty_run / "run") if not r.complete]
        # NOTE: a proposal may begin with a depth that fails too.
        assert f"{len(failed)} schedule(s) ended without a result" in done.out
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
        assert record.seconds > 0

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
            schedule=record.schedule,
            label=None,
            settings=settings.replace("killed_once_after_step_1", "raises_once"),
            run_dir=str(tmp_path / "run"),
            predicted_latency_ms=record.evaluation.latency_ms,  # type: ignore[union-attr]
            measure_latency=False,
        )
        undisturbed = run_trial(job)  # the trace of the fault says: not the first time
        assert undisturbed.evaluation == record.evaluation
        assert undisturbed.final_loss == record.final_loss
        kept = tmp_path / "run" / "trials" / "0000" / "ema.safetensors"
        assert same_weights(kept, folder / "ema.safetensors")


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
    assert "Free space and run the same command again" in done.err.splitlines()[-1]
    assert "No space left on device" in done.err.splitlines()[-1]
    assert [r.label for r in records_of(tmp_path / "run")] == ["full"]
    assert run_cli("run", space, "--output", tmp_path / "run").code == 0
    check_promises(tmp_path / "run", 2)
    assert trainings(tmp_path).count((10,) * 10) == 1
