"""Jobs as plain data."""

import json
from dataclasses import replace

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import (
    ConfirmJob,
    ControlJob,
    ProfileJob,
    PromoteJob,
    RetrainJob,
    TrialJob,
    job_from_dict,
)

DEPTHS = (10, 9, 8)


def test_jobs_survive_a_pipe() -> None:
    trial = TrialJob(
        number=7,
        depths=DEPTHS,
        label=None,
        settings="name: tiny",
        run_dir="runs/tiny",
        predicted_latency_ms=1.5,
        measure_latency=False,
        resume_from=3,
    )
    confirm = ConfirmJob(
        number=7, depths=DEPTHS, label="D2", settings="", run_dir="r", seed=1, num_samples=64
    )
    promote = PromoteJob(
        number=7, depths=DEPTHS, label=None, settings="", run_dir="r", num_steps=9
    )
    profile = ProfileJob(exits="uniform", settings="", run_dir="r")
    anew = RetrainJob(
        number=7,
        depths=DEPTHS,
        label=None,
        settings="",
        run_dir="r",
        training_seed=4,
        num_steps=2,
    )
    again = replace(confirm, training_seed=4)
    control = ControlJob(seed=4, settings="", run_dir="r")
    for job in (trial, confirm, promote, anew, again, profile, control):
        assert job_from_dict(json.loads(json.dumps(job.to_dict()))) == job
    assert trial.schedule == ExitSchedule(DEPTHS)
