"""Jobs and outcomes as plain data."""

import pickle

import pytest
from driving import confirm_of, record_of
from trial_jobs import DEPTHS

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import (
    ConfirmJob,
    Done,
    Failed,
    Job,
    Outcome,
    ProfileJob,
    RetrainJob,
    TrialJob,
)

SCHEDULE = ExitSchedule(DEPTHS)
STUDY = {"settings": "name: tiny", "run_dir": "runs/tiny"}

JOBS = [
    TrialJob(
        number=7,
        schedule=SCHEDULE,
        label=None,
        predicted_latency_ms=1.5,
        measure_latency=False,
        resume_from=3,
        **STUDY,
    ),
    ConfirmJob(number=7, schedule=SCHEDULE, seed=1, num_samples=64, **STUDY),
    RetrainJob(
        number=7, schedule=SCHEDULE, training_seed=4, seeds=(1, 2), num_samples=64, **STUDY
    ),
    ProfileJob(**STUDY),
]
OUTCOMES = [
    Done(result=record_of(7, DEPTHS)),
    Done(result=(confirm_of(7, 1, 2.0),)),
    Done(result=None),
    Failed(stage="worker", reason="the worker died", retry=True),
]


@pytest.mark.parametrize("item", [*JOBS, *OUTCOMES], ids=lambda item: type(item).__name__)
def test_they_survive_the_way_to_another_process(item: Job | Outcome) -> None:
    assert pickle.loads(pickle.dumps(item)) == item
