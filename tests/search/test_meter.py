"""What a run costs, and the end of its budget."""

from pathlib import Path

import pytest
from driving import settings_of

from schedsearch.exceptions import ExitCode
from schedsearch.runs.costs import Costs
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.meter import BudgetSpentError, Meter, Metered
from schedsearch.workers.jobs import (
    WORKER_STAGE,
    ConfirmJob,
    Done,
    Failed,
    Job,
    Outcome,
    ProfileJob,
    TrialJob,
)

DONE, FAILED = Done(result=None), Failed(stage="fine-tune", reason="it broke")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Hands out jobs and notes what it is told."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = list(jobs)
        self.told: list[tuple[Job, Outcome]] = []

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def finish(self, job: Job, outcome: Outcome) -> None:
        self.told.append((job, outcome))


def trial(number: int) -> TrialJob:
    return TrialJob(
        number=number,
        schedule=ExitSchedule((2,)),
        label=None,
        settings="",
        run_dir="",
        predicted_latency_ms=1.0,
        measure_latency=False,
    )


def confirm(seed: int) -> ConfirmJob:
    return ConfirmJob(
        number=1, schedule=ExitSchedule((2,)), settings="", run_dir="", seed=seed, num_samples=2
    )


def meter_of(tmp_path: Path, clock: Clock, workers: int = 2, **budget: float) -> Meter:
    settings = settings_of(search={"budget": budget}, resources={"num_workers": workers})
    folder = RunFolder(tmp_path)
    return Meter(folder, settings, Costs.load(folder), clock=clock)


def test_every_job_counts_in_its_stage(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock)
    died = Failed(stage=WORKER_STAGE, reason="died", retry=True)
    ended: dict[str, list[tuple[Job, Outcome]]] = {
        "profile": [(ProfileJob(settings="", run_dir=""), DONE)],
        "trials": [(trial(0), DONE), (trial(1), FAILED), (trial(2), died)],
        "confirmation": [(confirm(1), DONE), (confirm(2), FAILED)],
    }
    seconds = iter(range(1, 10))
    for stage, jobs in ended.items():
        source = Source(*(job for job, _ in jobs))
        metered = Metered(source, meter, stage)
        with meter.stage(stage):
            for job, outcome in jobs:
                assert metered.next_job() == job
                clock.now += next(seconds)
                metered.finish(job, outcome)
        assert metered.next_job() is None
        assert source.told == jobs
    kept = Costs.load(RunFolder(tmp_path))
    assert {name: (c.jobs, c.device_seconds) for name, c in kept.stages.items()} == {
        "profile": (1, 1.0),
        "trials": (1, 2.0),
        "failed trials": (2, 3.0 + 4.0),
        "confirmation": (2, 5.0 + 6.0),
    }
    assert kept.of("trials").wall_seconds == 9.0
    assert kept.device_seconds == kept.wall_seconds == 21.0


def test_starts_add_up_and_a_killed_one_counts(tmp_path: Path) -> None:
    clock = Clock()
    first = meter_of(tmp_path, clock)
    first.begin(trial(0))
    clock.now += 40.0
    first.check()  # writes now and then; after this the driver is killed
    clock.now += 1000.0
    second = meter_of(tmp_path, clock)
    clock.now += 5.0
    assert second.costs.wall_seconds == 45.0
    assert second.costs.of("interrupted").device_seconds == 40.0
    second.begin(trial(0))
    clock.now += 2.0
    second.close()
    third = meter_of(tmp_path, clock).costs
    assert third.device_seconds == third.of("interrupted").device_seconds == 42.0
    assert third.of("interrupted").jobs == 1


def test_no_trial_starts_after_the_wall_clock(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock, wall_clock=10)
    trials = Metered(Source(trial(0), trial(1)), meter, "trials", within_budget=True)
    assert trials.next_job() is not None
    clock.now += 9.9
    assert not meter.spent
    clock.now += 0.1
    assert trials.next_job() is None
    confirmation = Metered(Source(confirm(1)), meter, "confirmation")
    assert confirmation.next_job() == confirm(1)  # it runs whatever the budget says
    meter.close()
    assert meter_of(tmp_path, clock, wall_clock=10).spent
    assert not meter_of(tmp_path, clock, wall_clock=100).spent


def test_device_hours_count_jobs_that_still_run(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock, device_hours=1)
    jobs = Source(trial(0), trial(1), trial(2))
    metered = Metered(jobs, meter, "trials", within_budget=True)
    assert metered.next_job() is not None
    assert metered.next_job() is not None
    clock.now += 1799.0
    assert not meter.spent
    clock.now += 1.0
    assert metered.next_job() is None
    assert meter.used() == "30 min 00 s wall-clock, 1.00 of 1 device-hours"


@pytest.mark.parametrize(
    ("budget", "grace"), [({"wall_clock": 1000.0}, 100.0), ({"wall_clock": 10.0}, 30.0)]
)
def test_running_jobs_have_a_grace(tmp_path: Path, budget: dict[str, float], grace: float) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock, **budget)
    meter.begin(trial(0))
    clock.now += budget["wall_clock"] + grace - 1
    meter.check()
    clock.now += 1
    with pytest.raises(BudgetSpentError, match=r"1 job\(s\) did not end in time") as caught:
        meter.check()
    assert caught.value.exit_code == ExitCode.TIME_UP == 124
    meter.abandon_jobs()
    clock.now += 50  # final latencies and the confirmation
    costs = meter.costs
    assert costs.of("interrupted").device_seconds == budget["wall_clock"] + grace
    assert costs.in_flight_seconds == 0


def test_work_of_the_driver(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock)
    with meter.driver_stage("final latency"):
        clock.now += 3.0
    cost = Costs.load(RunFolder(tmp_path)).of("final latency")
    assert (cost.jobs, cost.device_seconds, cost.wall_seconds) == (1, 3.0, 3.0)
