"""Runs one job in a worker process: plain data in, plain data out, and never an exception."""

from __future__ import annotations

from schedsearch.workers.failures import one_line, stage_of
from schedsearch.workers.jobs import ControlJob, Job, ProfileJob, PromoteJob, RetrainJob, TrialJob


def run_job(job: Job) -> dict[str, str]:
    """Run any job.

    Returns:
        ``record``: the JSON of the job's record; or ``error`` in one line and the ``stage`` to
        blame, for a job other than a trial that failed. A trial that failed has a record that
        says so.
    """
    if isinstance(job, TrialJob):
        from schedsearch.workers.trial import run_trial

        return {"record": run_trial(job).to_json()}
    if isinstance(job, ProfileJob):
        from schedsearch.workers.profile import run_profile

        return run_profile(job)
    from schedsearch.workers.confirm import confirm, promote
    from schedsearch.search.control_worker import sample_control
    from schedsearch.workers.retrain import retrain

    try:
        if isinstance(job, ControlJob):
            return {"record": sample_control(job)}
        if isinstance(job, PromoteJob):
            return {"record": promote(job)}
        if isinstance(job, RetrainJob):
            return {"record": retrain(job)}
        return {"record": confirm(job).to_json()}
    except Exception as error:  # noqa: BLE001 - a worker answers; the driver decides
        return {"error": one_line(error), "stage": stage_of(error, "confirm")}
