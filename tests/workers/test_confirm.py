"""Fine-tunes anew in this process: what they leave, and how they go on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_runs import trainings
from trial_jobs import DEPTHS, job_of

from schedsearch.records import ConfirmRecord
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.confirm import SEED_OFFSET
from schedsearch.workers.jobs import ConfirmJob, RetrainJob, TrialJob
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.run_job import run_job
from schedsearch.workers.trial import run_trial


def anew_of(job: TrialJob, training_seed: int, **changes: Any) -> RetrainJob:
    return RetrainJob(
        number=7,
        depths=DEPTHS,
        label=None,
        settings=job.settings,
        run_dir=job.run_dir,
        training_seed=training_seed,
        **changes,
    )


def test_a_fine_tune_anew_is_a_trial_with_another_seed(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    record = run_trial(job)
    assert record.evaluation is not None
    folder = RunFolder(tmp_path / "run")
    own = folder.weights(7).read_bytes()

    def fid(training_seed: int, num_steps: int = 0) -> float:
        kept = folder.retrained(7, training_seed)
        kept.unlink(missing_ok=True)
        assert set(run_job(anew_of(job, training_seed, num_steps=num_steps))) == {"record"}
        confirm = ConfirmJob(
            number=7,
            depths=DEPTHS,
            label=None,
            settings=job.settings,
            run_dir=job.run_dir,
            seed=0,
            num_samples=64,
            num_steps=num_steps,
            training_seed=training_seed,
        )
        found = ConfirmRecord.from_json(run_job(confirm)["record"])
        assert (found.number, found.seed, found.training_seed) == (7, 0, training_seed)
        assert (found.num_steps, found.fid_ci95) == (num_steps, None)
        return found.fid

    same = fid(0)  # the trial's own seeds, so that it is the trial once more
    assert same == record.evaluation.fid
    assert fid(5) != same
    assert fid(0, num_steps=2) != same
    assert folder.weights(7).read_bytes() == own
    assert not list(folder.retraining(7, 0).rglob("progress.pt"))
    began = len(trainings(tmp_path))
    assert set(run_job(anew_of(job, 5))) == {"record"}  # its weights are there
    assert len(trainings(tmp_path)) == began
    broken = run_job(replace(anew_of(job, 6), depths=(99,) * 10))
    assert set(broken) == {"error", "stage"}
    assert "Traceback" in (folder.retraining(7, 6) / "log.txt").read_text()


@pytest.mark.parametrize("part", ["", "promotion"])
def test_a_fine_tune_anew_goes_on_from_its_saved_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    job = job_of(tmp_path)
    whole = anew_of(job, 5, num_steps=2)
    folder = RunFolder(tmp_path / "run")
    assert set(run_job(whole)) == {"record"}
    expected = load_file(folder.retrained(7, 5))
    folder.retrained(7, 5).unlink()
    save = FileProgress.save

    def die_after_saving(self: FileProgress, step: int, state: Any) -> None:
        save(self, step, state)
        if self._folder == folder.retraining(7, 5) / part and step == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(FileProgress, "save", die_after_saving)
    with pytest.raises(KeyboardInterrupt):
        run_job(whole)
    monkeypatch.undo()
    assert (folder.retraining(7, 5) / part / "progress.pt").is_file()
    log = folder.retraining(7, 5) / part / "log.txt"
    log.write_text("")
    assert set(run_job(whole)) == {"record"}
    assert "step=1 " not in log.read_text()  # it was not trained again
    assert all(expected[n].equal(v) for n, v in load_file(folder.retrained(7, 5)).items())


def test_seeds_of_a_fine_tune_anew_and_of_its_continued_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The continued steps see other batches, as those of a promoted trial do."""
    seen = []

    def note(net: Any, *arguments: Any) -> Any:
        seen.append(arguments[3])
        return net

    monkeypatch.setattr("schedsearch.workers.retrain.finetuned", note)
    assert set(run_job(anew_of(job_of(tmp_path), 5, num_steps=2))) == {"record"}
    assert seen == [5, SEED_OFFSET + 5]
