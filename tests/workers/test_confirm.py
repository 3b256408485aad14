"""Finished trials measured again: held-out seeds, and retrained weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_runs import trainings
from trial_jobs import confirm_job, job_of, retrain_job

from schedsearch.exceptions import CheckpointError
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.confirm import confirm, retrain
from schedsearch.workers.jobs import Done
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.run_job import run_job
from schedsearch.workers.trial import run_trial


def test_kept_weights_at_a_held_out_seed(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    evaluation = run_trial(job).evaluation
    assert evaluation is not None
    same = confirm(confirm_job(job, seed=0))  # the search's own seed
    for name in ("fid", "kid", "sample_std", "nn_distance", "near_copies"):
        assert getattr(same, name) == getattr(evaluation, name), name
    assert same.nn_distance is not None
    assert same.nn_distance > 0
    held_out = confirm(confirm_job(job, seed=1))
    assert (held_out.number, held_out.seed, held_out.num_samples) == (7, 1, 64)
    assert held_out.fid != same.fid
    assert (held_out.features, held_out.training_seed) == ("digits CNN", None)
    assert (held_out.audit_fid, held_out.audit_features) == (None, None)
    assert run_job(confirm_job(job, seed=1)) == Done(result=(held_out,))
    with pytest.raises(CheckpointError, match="0008"):
        confirm(replace(confirm_job(job, seed=1), number=8))


def test_the_auditor_judges_the_same_images(tmp_path: Path) -> None:
    job = job_of(tmp_path, evaluation={"auditor": "digits_mlp"})
    run_trial(job)
    found = confirm(confirm_job(job, seed=1))
    assert found.audit_fid is not None
    assert found.audit_fid != found.fid
    assert found.audit_features not in (None, found.features)


def test_retraining_is_a_trial_with_another_seed(tmp_path: Path) -> None:
    job, folder = job_of(tmp_path), RunFolder(tmp_path / "run")
    evaluation = run_trial(job).evaluation
    assert evaluation is not None
    own = folder.weights(7).read_bytes()
    (same,) = retrain(retrain_job(job, training_seed=0, seeds=(0,)))  # the trial's own seeds
    assert same.fid == evaluation.fid
    (other,) = retrain(retrain_job(job, training_seed=5, seeds=(0,)))
    assert (other.number, other.training_seed) == (7, 5)
    assert other.fid != same.fid
    assert folder.weights(7).read_bytes() == own


def test_retrained_weights_are_measured_at_the_seeds_asked_for_and_made_once(
    tmp_path: Path,
) -> None:
    job, folder = job_of(tmp_path), RunFolder(tmp_path / "run")
    first = retrain(retrain_job(job, training_seed=5, seeds=(3, 4)))
    assert [record.seed for record in first] == [3, 4]
    assert folder.retrained_weights(7, 5).is_file()
    assert not list((tmp_path / "run").rglob("progress.pt"))
    began = len(trainings(tmp_path))
    more = retrain(retrain_job(job, training_seed=5, seeds=(4, 9)))
    assert [record.seed for record in more] == [4, 9]
    assert more[0] == first[1]
    assert len(trainings(tmp_path)) == began


def test_retraining_goes_on_from_its_saved_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder = job_of(tmp_path), RunFolder(tmp_path / "run")
    again = retrain_job(job, training_seed=5, seeds=(3,))
    whole = retrain(again)
    weights = folder.retrained_weights(7, 5)
    expected = load_file(weights)
    weights.unlink()
    save = FileProgress.save

    def die_after_saving(self: FileProgress, step: int, state: Any) -> None:
        save(self, step, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileProgress, "save", die_after_saving)
        with pytest.raises(KeyboardInterrupt):
            retrain(again)
    assert (weights.parent / "progress.pt").is_file()
    log = weights.parent / "log.txt"
    log.write_text("")
    assert retrain(again) == whole
    assert "resumed after step 1 of 2" in log.read_text()
    assert "step=1 " not in log.read_text()
    assert all(expected[name].equal(value) for name, value in load_file(weights).items())


def test_retraining_that_fails_leaves_its_log(tmp_path: Path) -> None:
    job = retrain_job(job_of(tmp_path), training_seed=6, seeds=(3,))
    with pytest.raises(Exception, match="99"):
        retrain(replace(job, schedule=ExitSchedule((99,) * 10)))
    folder = RunFolder(tmp_path / "run").retrained_weights(7, 6).parent
    assert "Traceback" in (folder / "log.txt").read_text()
