"""Jobs on the tiny space, for workers in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_runs import faulty_space

from schedsearch.config import dump_settings, read_settings
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import ConfirmJob, RetrainJob, TrialJob

DEPTHS = (9, 9, 9, 8, 8, 8, 7, 7, 7, 6)


def job_of(
    tmp_path: Path,
    fault: str | None = None,
    evaluation: Mapping[str, Any] | None = None,
    **changes: Any,
) -> TrialJob:
    """Trial 7 of the tiny space, whose trainer may have a fault."""
    faults = {} if fault is None else {9: fault}
    space = faulty_space(tmp_path, faults, evaluation=dict(evaluation or {}))
    values: dict[str, Any] = {
        "number": 7,
        "schedule": ExitSchedule(DEPTHS),
        "label": None,
        "settings": dump_settings(read_settings(space, [])),
        "run_dir": str(tmp_path / "run"),
        "predicted_latency_ms": 12.5,
        "measure_latency": False,
    }
    return TrialJob(**{**values, **changes})


def confirm_job(job: TrialJob, seed: int, num_samples: int = 64) -> ConfirmJob:
    """The confirmation of a trial at a seed."""
    return ConfirmJob(
        settings=job.settings,
        run_dir=job.run_dir,
        number=job.number,
        schedule=job.schedule,
        seed=seed,
        num_samples=num_samples,
    )


def retrain_job(
    job: TrialJob, training_seed: int, seeds: tuple[int, ...], num_samples: int = 64
) -> RetrainJob:
    """The retraining of a trial's schedule."""
    return RetrainJob(
        settings=job.settings,
        run_dir=job.run_dir,
        number=job.number,
        schedule=job.schedule,
        training_seed=training_seed,
        seeds=seeds,
        num_samples=num_samples,
    )
