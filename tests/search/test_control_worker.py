"""Control images in this process, and trials that they correct."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from trial_jobs import job_of

from schedsearch.evaluation.frechet import frechet_distance
from schedsearch.schedule import ExitSchedule
from schedsearch.search.jobs import ControlJob
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.trial_worker import run_trial
from schedsearch.search.workbench import open_workbench
from schedsearch.search.worker import run_job


def test_control_images_correct_the_fid_of_trials_and_nothing_else(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    plain = run_trial(job)
    data = yaml.safe_load(job.settings)
    data["evaluation"]["control_samples"] = 192
    settings = yaml.safe_dump(data)
    job = replace(job, settings=settings)
    missing = run_trial(job)
    assert (missing.complete, missing.stage) == (False, "load")
    assert "the same command makes them again" in str(missing.reason)
    bench = open_workbench(settings, str(RunFolder(tmp_path / "run").reference))
    seeds = bench.settings.evaluation.control_seeds_used
    for seed in seeds:
        sampling = ControlJob(seed=seed, settings=settings, run_dir=job.run_dir)
        assert set(run_job(sampling)) == {"record"}
        kept = bench.control_file(seed).read_bytes()
        assert set(run_job(sampling)) == {"record"}  # done once
        assert bench.control_file(seed).read_bytes() == kept
    (control,) = bench.controls.values()
    assert control.pooled.num_images == 192
    found = run_trial(job)
    assert found.evaluation is not None
    assert plain.evaluation is not None
    assert (found.evaluation.control_samples, plain.evaluation.control_samples) == (192, 0)
    assert found.evaluation.fid != plain.evaluation.fid
    assert found.evaluation.kid == plain.evaluation.kid
    assert found.evaluation.protocol != plain.evaluation.protocol
    full = bench.measure(
        bench.fresh_backbone(),
        ExitSchedule.flat(10),
        seed=0,
        num_samples=64,
        control=control,
    )
    pooled = frechet_distance(control.pooled, bench.reference.statistics)
    assert full.fid == pytest.approx(pooled, rel=1e-6)
