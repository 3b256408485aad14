"""What a run costs, and the end of its budget."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from driving import record_of, settings_of

from schedsearch.exceptions import ExitCode, StorageError
from schedsearch.runs.costs import Costs, duration
from schedsearch.runs.folder import RunFolder
from schedsearch.search.meter import BudgetSpentError, Meter, Metered, Reserve
from schedsearch.workers.jobs import (
    ConfirmJob,
    ControlJob,
    Job,
    ProfileJob,
    PromoteJob,
    RetrainJob,
    TrialJob,
)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Hands out jobs without end and notes what it is told."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = list(jobs)
        self.told: list[str] = []

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        self.told.append(f"finish {job.number}")

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        self.told.append(f"lose {job.number} {reason}")


def trial(number: int) -> TrialJob:
    return TrialJob(
        number=number,
        depths=(2,),
        label=None,
        settings="",
        run_dir="",
        predicted_latency_ms=1.0,
        measure_latency=False,
    )


def confirm(seed: int) -> ConfirmJob:
    return ConfirmJob(
        number=1, depths=(2,), label=None, settings="", run_dir="", seed=seed, num_samples=2
    )


def anew(training_seed: int) -> RetrainJob:
    return RetrainJob(
        number=1,
        depths=(2,),
        label=None,
        settings="",
        run_dir="",
        training_seed=training_seed,
    )


def meter_of(tmp_path: Path, clock: Clock, workers: int = 2, **budget: float) -> Meter:
    settings = settings_of(
        search={"budget": budget},
        resources={"num_workers": workers},
        evaluation={
            "confirm_seeds": 2,
            "runoff_seeds": 2,
            "confirm_training_seeds": 2,
            "runoff_training_seeds": 1,
        },
    )
    return Meter(RunFolder(tmp_path), settings, clock=clock)


def test_every_job_counts_in_its_stage(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock)
    promote = PromoteJob(number=1, depths=(2,), label=None, settings="", run_dir="", num_steps=3)
    profile = ProfileJob(exits="uniform", settings="", run_dir="")
    jobs: list[Job] = [trial(0), trial(1), trial(2), confirm(1), confirm(3), promote, profile]
    jobs += [anew(2), anew(3)]  # of the verdicts, of the runoff
    jobs.append(ControlJob(seed=3, settings="", run_dir=""))
    source = Source(*jobs)
    metered = Metered(source, meter)
    outcomes: list[dict[str, str] | None] = [
        {"record": record_of(0, (2,)).to_json()},
        {"record": record_of(1, (2,), None).to_json()},
        None,
        {"record": "{}"},
        {"error": "broke"},
        {"record": "{}"},
        {"record": "{}"},
        {"record": "{}"},
        {"record": "{}"},
        {"record": "{}"},
    ]
    with meter.stage("trials"):
        for seconds, outcome in enumerate(outcomes, start=1):
            job = metered.next_job()
            assert job is not None
            clock.now += seconds
            if outcome is None:
                metered.lose(job, "died", retry=True)
            else:
                metered.finish(job, outcome)
    assert source.told[:3] == ["finish 0", "finish 1", "lose 2 died"]
    kept = Costs.load(RunFolder(tmp_path))
    assert {name: (c.jobs, c.device_seconds) for name, c in kept.stages.items()} == {
        "trials": (1, 1.0),
        "failed trials": (2, 5.0),
        "confirmation": (2, 12.0),
        "runoff": (2, 14.0),
        "promotion": (1, 6.0),
        "profile": (1, 7.0),
        "control images": (1, 10.0),
    }
    assert kept.device_seconds == kept.wall_seconds == kept.of("trials").wall_seconds == 55.0
    text = "\n".join(kept.lines())
    assert "failed trials:                2 jobs" in text
    assert "9%" in text  # 5 of 55 seconds


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


def test_no_job_starts_after_the_wall_clock(tmp_path: Path) -> None:
    clock = Clock()
    metered = Metered(Source(trial(0), trial(1)), meter_of(tmp_path, clock, wall_clock=10))
    assert metered.next_job() is not None
    clock.now += 10.0
    assert metered.next_job() is None
    larger = meter_of(tmp_path, clock, wall_clock=100)
    assert not larger.spent


def test_a_reserve_is_kept_back_and_asked_for_before_every_job(tmp_path: Path) -> None:
    clock = Clock()
    for name, limit in (("wall_clock", 100.0), ("device_hours", 100.0 / 3600)):
        meter = meter_of(tmp_path / name, clock, **{name: limit})
        source = Source(trial(0), trial(1))
        reserves = [Reserve(), Reserve(wall_seconds=30.0, device_seconds=30.0)]
        kept = Metered(source, meter, lambda r=reserves: r.pop(0) if len(r) > 1 else r[0])
        assert kept.next_job() == trial(0)
        clock.now += 69.5
        assert meter.allows(reserves[0])
        clock.now += 0.5
        assert kept.next_job() is None
        assert kept.denied
        assert not meter.spent
        assert meter.is_limited
        assert Metered(source, meter).next_job() == trial(1)
    assert not meter_of(tmp_path / "none", clock).is_limited


def test_device_hours_count_jobs_that_still_run(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock, device_hours=1)
    metered = Metered(Source(trial(0), trial(1), trial(2)), meter)
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


def test_work_of_the_driver(tmp_path: Path) -> None:
    clock = Clock()
    meter = meter_of(tmp_path, clock)
    with meter.driver_stage("final latency"):
        clock.now += 3.0
    cost = Costs.load(RunFolder(tmp_path)).of("final latency")
    assert (cost.jobs, cost.device_seconds, cost.wall_seconds) == (1, 3.0, 3.0)


@pytest.mark.parametrize(
    "text", ["damaged", "[]", '{"wall_seconds": 1, "in_flight_seconds": 0, "stages": {"a": 1}}']
)
def test_damaged_costs(tmp_path: Path, text: str) -> None:
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(StorageError, match="Delete it"):
        Costs.load(RunFolder(tmp_path))


def test_durations() -> None:
    assert [duration(s) for s in (1.25, 59.96, 61, 7265)] == [
        "1.2 s",
        "1 min 00 s",
        "1 min 01 s",
        "2 h 01 min",
    ]
