"""Runs one job in a worker process: an outcome comes back, never an exception."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from schedsearch.workers.failures import failure_of
from schedsearch.workers.jobs import (
    WORKER_STAGE,
    ConfirmJob,
    Done,
    Failed,
    Job,
    NetworkJob,
    Outcome,
    PlanJob,
    ProfileJob,
    RetrainJob,
    RowJob,
    StartJob,
    TrialJob,
)
from schedsearch.workers.stopping import Stopped


def run_job(job: Job) -> Outcome:
    """Run any job.

    Returns:
        ``Done`` with the result, or ``Failed`` with the stage and the reason.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    try:
        return _run(job)
    except Stopped:
        return Failed(stage=WORKER_STAGE, reason="the run was stopped", retry=True)
    except Exception as error:  # noqa: BLE001 - a worker answers; the driver decides
        seconds = round(time.perf_counter() - clock, 3)
        return failure_of(error, started=started, seconds=seconds)


def _run(job: Job) -> Done:
    # NOTE: imported here, so that the driver does not load torch to name a job.
    if isinstance(job, TrialJob):
        from schedsearch.workers.trial import run_trial

        return Done(result=run_trial(job))
    if isinstance(job, StartJob):
        from schedsearch.workers.start_check import run_start

        run_start(job)
        return Done(result=None)
    if isinstance(job, ProfileJob):
        from schedsearch.workers.profile import run_profile

        return Done(result=run_profile(job))
    if isinstance(job, NetworkJob):
        from schedsearch.workers.rivals.networks import make_network

        make_network(job)
        return Done(result=None)
    if isinstance(job, PlanJob):
        from schedsearch.workers.plans.calibration import calibrate_plans

        calibrate_plans(job)
        return Done(result=None)
    if isinstance(job, RowJob):
        from schedsearch.workers.rivals.measurement import measure_row

        return Done(result=measure_row(job))
    from schedsearch.workers.confirm import confirm, retrain

    if isinstance(job, RetrainJob):
        return Done(result=retrain(job))
    if isinstance(job, ConfirmJob):
        return Done(result=(confirm(job),))
    raise TypeError(f"A worker knows no {type(job).__name__}.")
