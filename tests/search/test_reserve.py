"""What of a budget is kept back for the end of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import record_of, settings_of
from tiny_runs import records_of, run_cli, write_space

from schedsearch.hand_made import FULL
from schedsearch.search.confirmation_jobs import JobsLeft
from schedsearch.search.costs import Costs
from schedsearch.search.metering import Reserve
from schedsearch.search.reserve import Pace, reserve_for_one_more, seconds_to_the_end
from schedsearch.search.results import RunResults
from schedsearch.search.run_folder import RunFolder

LEFT = JobsLeft(measurements=10, promotions=2)


def results_of(workers: int = 4, num_steps: int = 5, **budget: float) -> RunResults:
    """Two trials of 8 s on average, 5 of them fine-tuning: one second per step."""
    settings = settings_of(
        recipe={"num_steps": num_steps},
        evaluation={
            "num_samples": 60, "confirm_seeds": 2, "confirm_samples": 20, "confirm_steps": 3,
            "latency_repeats": 3,
        },
        search={"n_trials": 40, "budget": budget},
        resources={"num_workers": workers},
    )  # fmt: skip
    trials: list[dict[str, Any]] = [
        {"seconds": 7.0, "stage_seconds": {"fine-tune": 4.0}, "label": FULL},
        {"seconds": 9.0, "stage_seconds": {"fine-tune": 6.0}},
    ]
    records = [
        record_of(n, (10 - n,) * 10, 2.0 + n, 2000.0 - 500 * n, **more)
        for n, more in enumerate(trials)
    ]
    return RunResults(settings, [*records, record_of(5, (2,) * 10, None)], None, [])


def test_the_end_is_latencies_continued_fine_tunes_and_measurements() -> None:
    latency = 2 * 3 * (2.0 + 1.5)  # three interleaved rounds of both; they are on the front
    measuring, tuning = 10 * 3.0 / 3, 2 * 3 * 1.0  # a third of the images
    end = seconds_to_the_end(results_of(), LEFT)
    assert end.device_seconds == pytest.approx(latency + measuring + tuning)
    # Four workers share ten measurements, but two fine-tunes keep only two of them busy.
    assert end.wall_seconds == pytest.approx(latency + measuring / 4 + tuning / 2)
    nothing = seconds_to_the_end(results_of(), JobsLeft())
    assert nothing == Reserve(device_seconds=latency, wall_seconds=latency)


def test_fine_tunes_anew_are_shared_by_as_many_workers_as_there_are() -> None:
    nothing = seconds_to_the_end(results_of(), JobsLeft())
    anew = JobsLeft(measurements=10, retrainings=2, retraining_steps=2 * 8)
    end = seconds_to_the_end(results_of(), anew)
    measuring, tuning = 10 * 3.0 / 3, 2 * 8 * 1.0
    assert end.device_seconds - nothing.device_seconds == pytest.approx(measuring + tuning)
    assert end.wall_seconds - nothing.wall_seconds == pytest.approx(measuring / 4 + tuning / 2)


def test_one_more_trial_must_fit_too_and_half_of_the_budget_is_for_trials() -> None:
    end = seconds_to_the_end(results_of(), LEFT)
    free = reserve_for_one_more(results_of(), LEFT)
    assert free.wall_seconds == pytest.approx(8.0 + end.wall_seconds)
    assert free.device_seconds == pytest.approx(8.0 + 3 * 4.0 + end.device_seconds)
    small = reserve_for_one_more(results_of(wall_clock=20.0, device_hours=30 / 3600), LEFT)
    assert small.wall_seconds == pytest.approx(8.0 + 10.0)
    assert small.device_seconds == pytest.approx(8.0 + 3 * 4.0 + 15.0)


def test_without_steps_of_their_own_trials_tell_the_pace_by_sampling() -> None:
    """Trials that only measure shared weights: 3 s for 60 images of 3 calls each."""
    none = results_of(num_steps=0)
    measuring = JobsLeft(measurements=10)
    assert seconds_to_the_end(none, measuring) == seconds_to_the_end(results_of(), measuring)
    training = JobsLeft(promotions=2)
    step = 3 * 64 * 3.0 / (60 * 3)  # three passes of a batch of 64
    extra = (
        seconds_to_the_end(none, training).device_seconds
        - seconds_to_the_end(none, JobsLeft()).device_seconds
    )
    assert extra == pytest.approx(2 * 3 * step)


def test_the_pace_is_that_of_one_of_a_trials_fine_tunes() -> None:
    once = results_of()
    evaluation = replace(once.settings.evaluation, seeds_per_trial=2)
    twice = RunResults(replace(once.settings, evaluation=evaluation), once.records, None, [])
    one, two = Pace.of(once), Pace.of(twice)
    assert one is not None
    assert two is not None
    assert two.trial == one.trial
    assert two.finetune_step == pytest.approx(one.finetune_step / 2)
    assert two.measurement == pytest.approx(one.measurement / 2)


def test_nothing_is_kept_back_before_a_trial_has_shown_the_pace() -> None:
    results = results_of()
    empty = RunResults(results.settings, results.records[2:], None, [])
    assert reserve_for_one_more(empty, LEFT) == seconds_to_the_end(empty, LEFT) == Reserve()


@pytest.mark.slow
def test_a_budget_ends_the_trials_in_time_for_the_verdicts(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "warm_start": ["full", "D3-DiT"],
        "evaluation": {"num_samples": 32, "confirm_seeds": 2, "confirm_samples": 16},
    }
    first = write_space(tmp_path / "first", **changes, search={"n_trials": 4})
    assert run_cli("run", first, "--output", tmp_path / "first/run").code == 0
    spent = Costs.load(RunFolder(tmp_path / "first/run")).device_seconds
    space = write_space(
        tmp_path,
        **changes,
        search={"n_trials": 400, "budget": {"device_hours": 1.5 * spent / 3600}},
    )
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 124, done.err
    assert "no further trials" in done.out + done.err
    assert "The budget has no room for more" in done.out
    results = RunResults.load(RunFolder(tmp_path / "run"))
    assert 1 <= len(results.entries) < 400
    assert all(entry.latency_source == "measured" for entry in results.front())
    assert results.confirmations
    # Where the end took less than estimated, the same command may find room for another trial.
    assert run_cli("run", space, "--output", tmp_path / "run").code == 124
    complete = [record for record in records_of(tmp_path / "run") if record.complete]
    more = ("-o", f"search.budget.device_hours={4 * spent / 3600}")
    assert run_cli("run", space, *more, "--output", tmp_path / "run").code == 124
    assert sum(record.complete for record in records_of(tmp_path / "run")) > len(complete)
