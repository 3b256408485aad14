"""What a run will take, and what of a budget is kept back for its end."""

from pathlib import Path

import pytest
from driving import record_of
from tiny_runs import run_cli, write_space

from schedsearch.config import read_settings
from schedsearch.search.estimates import Estimates
from schedsearch.search.metering import Reserve
from schedsearch.search.preflight import check_before_start
from schedsearch.search.results import RunResults
from schedsearch.search.run_folder import RunFolder

EVALUATION = {"num_samples": 32, "confirm_seeds": 2, "runoff_seeds": 1, "confirm_samples": 16}


def estimates_for(folder: Path, **changes: object) -> Estimates:
    changes = {"warm_start": ["full", "D2-DiT", "D3-DiT"], "evaluation": EVALUATION, **changes}
    settings = read_settings(write_space(folder, **changes))
    return Estimates(check_before_start(settings, RunFolder(folder / "run"), dry_run=True))


def test_the_end_is_estimated_by_what_trials_took(tmp_path: Path) -> None:
    changes = {"search": {"n_trials": 40}, "resources": {"num_workers": 3}}
    estimates = estimates_for(tmp_path, **changes)
    assert estimates.reserve([]) == estimates.reserve([record_of(0, (2,) * 10, None)]) == Reserve()
    seconds = (2.0, 4.0, 6.0)  # of trials with one worker each
    trials = [record_of(n, (2,) * 10, seconds=took) for n, took in enumerate(seconds)]
    # Two presets, full depth, two rivals, three of the front at two seeds with half the images;
    # three contenders of each preset at one.
    pace = 4.0 / estimates.trial_seconds()
    confirmation = pace * estimates.confirmation_seconds()
    latency = estimates.final_latency_seconds()
    reserve = estimates.reserve(trials)
    assert reserve.wall_seconds == pytest.approx(4.0 + latency + confirmation / 3)
    assert reserve.device_seconds == pytest.approx(4.0 + 4.0 + latency + confirmation)


def test_confirmation_counts_images_of_both_its_phases(tmp_path: Path) -> None:
    many = {"search": {"n_trials": 40}, "recipe": {"num_steps": 1}}
    both = estimates_for(tmp_path / "both", **many)
    images = (8 * 2 + 6 * 1) * 16
    calls_of_a_trial = 32 * 3 + 3 * 1 * 64  # samples and, three passes each, a step of 64 images
    per_call = both.trial_seconds() / calls_of_a_trial
    assert both.confirmation_seconds() == pytest.approx(per_call * images * 3)
    none = estimates_for(tmp_path / "none", **many, evaluation={**EVALUATION, "confirm_seeds": 0})
    assert none.confirmation_seconds() == 0.0


@pytest.mark.slow
def test_a_budget_ends_the_trials_in_time_for_the_verdicts(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        warm_start=["full", "D3-DiT"],
        evaluation=EVALUATION,
        search={"n_trials": 400, "budget": {"device_hours": 25 / 3600}},
    )
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 124, done.err
    assert "no further trials" in done.out + done.err
    results = RunResults.load(RunFolder(tmp_path / "run"))
    assert 1 <= len(results.entries) < 400
    assert all(entry.latency_source == "measured" for entry in results.front())
    assert results.confirmations  # how many depends on the machine
    size = (tmp_path / "run" / "results.jsonl").stat().st_size
    again = run_cli("run", space, "--output", tmp_path / "run")
    assert again.code == 124, again.err
    assert (tmp_path / "run" / "results.jsonl").stat().st_size == size
