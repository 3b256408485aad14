"""Several fine-tunes behind one trial."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from schedsearch.evaluation.control import load_control
from schedsearch.workers.finetunes import TrialFinetunes
from tiny_runs import same_weights
from trial_jobs import job_of

from schedsearch.evaluation.frechet import frechet_distance
from schedsearch.evaluation.quality import Quality
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.jobs import ControlJob, TrialJob
from schedsearch.workers.progress import STATE_FILE
from schedsearch.workers.run_job import run_job
from schedsearch.workers.trial import run_trial
from schedsearch.workers.workbench import Workbench, open_workbench


def job_with(tmp_path: Path, *, seed: int = 0, number: int = 7, **evaluation: Any) -> TrialJob:
    """A trial whose training and evaluation seeds begin at ``seed`` and 100 above it."""
    job = job_of(tmp_path, number=number)
    data = yaml.safe_load(job.settings)
    data["search"]["seed"] = seed
    data["evaluation"] |= {"seed": seed + 100, **evaluation}
    return replace(job, settings=yaml.safe_dump(data))


def test_a_trial_is_the_mean_of_its_fine_tunes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    lone = [run_trial(job_with(tmp_path, seed=s, number=s)).evaluation for s in (0, 1)]
    both = run_trial(job_with(tmp_path, seeds_per_trial=2))
    first, second = lone
    assert first is not None
    assert second is not None
    assert both.evaluation is not None
    for name in ("fid", "kid", "sample_std", "class_accuracy"):
        values = getattr(first, name), getattr(second, name)
        assert values[0] != values[1] or name == "class_accuracy"
        assert getattr(both.evaluation, name) == pytest.approx(sum(values) / 2, rel=1e-9)
    assert (both.evaluation.num_finetunes, both.evaluation.num_samples) == (2, 64)
    assert both.evaluation.protocol not in (first.protocol, second.protocol)
    assert same_weights(folder.weights(7), folder.weights(0))
    assert (folder.trial(7) / "samples.png").read_bytes() == (
        folder.trial(0) / "samples.png"
    ).read_bytes()
    further = folder.further_finetune(7, 1)
    assert [path.name for path in further.iterdir()] == ["log.txt"]
    assert f"FID {second.fid:.6g} at evaluation seed 101" in (further / "log.txt").read_text()


def test_each_is_corrected_by_the_control_of_its_own_noise(tmp_path: Path) -> None:
    job = job_with(tmp_path, seeds_per_trial=2, control_samples=256)
    folder = RunFolder(tmp_path / "run")
    bench = open_workbench(job.settings, str(folder.reference))
    seeds = bench.settings.evaluation.control_seeds_used
    assert (seeds[:2], len(seeds)) == ((100, 101), 4)
    for seed in seeds:
        run_job(ControlJob(seed=seed, settings=job.settings, run_dir=job.run_dir))
    own, other = bench.controls[100], bench.controls[101]
    assert own.pooled.num_images == other.pooled.num_images == 256
    assert not own.features.equal(other.features)
    with pytest.raises(OSError, match="holds no features"):  # not the trials' noise
        load_control(bench.control_file(seeds[2]), [])
    # Untrained, full depth is its own control, at both seeds.
    recipe = replace(bench.settings.recipe, num_steps=0)
    untrained = replace(bench, settings=replace(bench.settings, recipe=recipe))
    finetunes = TrialFinetunes(replace(job, depths=(10,) * 10, number=9), untrained, folder)
    _, quality = finetunes.run(lambda name: contextlib.nullcontext())
    pooled = frechet_distance(own.pooled, bench.reference.statistics)
    assert quality.fid == pytest.approx(pooled, rel=1e-6)
    found = run_trial(job).evaluation
    assert found is not None
    assert (found.control_samples, found.num_finetunes) == (256, 2)


def test_an_interrupted_trial_goes_on_in_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    job = job_with(tmp_path, seeds_per_trial=2)
    whole = run_trial(job).evaluation
    data = yaml.safe_load(job.settings)
    data["recipe"]["save_every"] = 1
    saving = replace(job, settings=yaml.safe_dump(data), number=3)
    measure = Workbench.measure

    def dies_in_the_second(bench: Workbench, *args: Any, seed: int, **more: Any) -> Quality:
        if seed == 101:
            raise RuntimeError("out of luck")
        return measure(bench, *args, seed=seed, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Workbench, "measure", dies_in_the_second)
        killed = run_trial(saving)
    assert (killed.complete, killed.stage) == (False, "sample")
    states = [folder.trial(3) / STATE_FILE, folder.further_finetune(3, 1) / STATE_FILE]
    assert all(path.is_file() for path in states)
    log = (folder.trial(3) / "log.txt").read_text()  # the one that users are pointed to
    assert "at training seed 1:" in log
    assert "out of luck" in log
    resumed = run_trial(replace(saving, number=4, resume_from=3)).evaluation
    assert not any(path.exists() for path in states)
    assert whole is not None
    assert resumed is not None
    assert resumed.fid == whole.fid
    for path in (folder.trial(4), folder.further_finetune(4, 1)):
        assert "resumed after step" in (path / "log.txt").read_text()
    assert not list(folder.trial(4).rglob(STATE_FILE))
