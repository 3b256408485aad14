"""What a run will take, by a latency table made up for easy numbers."""

from types import SimpleNamespace
from typing import Any

import pytest
from driving import TIMES, settings_of, warm
from torch import nn

from schedsearch.evaluation.latency_table import LatencyTable
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.search.estimates import STARTUP_SECONDS, estimate_comparison, estimate_run
from schedsearch.search.preflight import Preflight
from schedsearch.search.stages.rivals import rivals_in
from schedsearch.settings.rows import rows_of
from schedsearch.workers.workbench import device_of

CALLS = 3
"""Network calls per image of the tiny space's solver."""

IMAGE = 0.002
"""Seconds per image of a network call at full depth: a batch of 8 takes 16 ms."""

TABLE = LatencyTable(
    depth_ms={},
    run_ms={},
    a_ms=0.0,
    b_ms=1.6,
    c0_ms=0.0,
    max_residual=0.0,
    mean_residual=0.0,
    num_calls=CALLS,
    repeats=3,
    protocol=None,  # type: ignore[arg-type]
)
FULL_MS = CALLS * 16.0
EVALUATION = {"num_samples": 32, "confirm_seeds": 2, "confirm_samples": 16}
RECIPE = {"num_steps": 5, "batch_size": 64}
PRESETS = [("full", (10,) * 10), ("D2-DiT", (6,) * 10), ("D3-DiT", (4,) * 10)]


def ready_of(*named: tuple[str, tuple[int, ...]], **changes: Any) -> Preflight:
    settings = settings_of(
        evaluation={**EVALUATION, **changes.pop("evaluation", {})},
        recipe={**RECIPE, **changes.pop("recipe", {})},
        search={"n_trials": 40, **changes.pop("search", {})},
        **changes,
    )
    bench = SimpleNamespace(
        settings=settings,
        backbone=SimpleNamespace(num_exit_blocks=10),
        pretrained=nn.Linear(4, 6, bias=False),
        solver=SimpleNamespace(times=TIMES, cfg_interval=None),
        device=device_of(settings),
    )
    return Preflight(
        bench=bench,  # type: ignore[arg-type]
        warm_starts=warm(*named),
        table=TABLE,
        latency=LatencyReport(table={}, full_ms=FULL_MS),
    )


def test_trials_count_with_the_depths_of_presets() -> None:
    """A training step is three passes of its batch; searched schedules are like the presets."""
    full_trial = IMAGE * (3 * 5 * 64 + 32 * CALLS)
    found = estimate_run(ready_of(*PRESETS))
    assert found.trials == pytest.approx(full_trial * (1.0 + 0.6 + 0.4 + 37 * 0.5))
    assert found.trial == pytest.approx(found.trials / 40)
    without = estimate_run(ready_of())
    assert without.trials == pytest.approx(full_trial * 40 * 2 / 3)


def test_a_comparison_counts_the_recipes_of_its_entries() -> None:
    rivals = {
        "flat": {"kind": "schedule", "schedules": ["flat-7"], "recipe": {"num_steps": 10}},
        "untuned": {"kind": "schedule", "schedules": ["flat-7"], "recipe": {"num_steps": 0}},
    }
    evaluation = {"confirm_training_seeds": 2}
    ready = ready_of(rivals=rivals, evaluation=evaluation)
    rows = rows_of(rivals_in(ready.settings), {})
    found = estimate_comparison(ready, [row for row in rows if row.entry in rivals])
    assert found.networks == pytest.approx(IMAGE * 3 * 10 * 64 * 2)


def test_held_out_seeds_of_rows_count_with_their_own_number_of_images() -> None:
    ready = ready_of(rivals={"steps": {"kind": "steps", "num_steps": [3]}})
    rows = [row for row in rows_of(rivals_in(ready.settings), {}) if row.name == "full"]
    found = estimate_comparison(ready, rows)
    assert found.rows == pytest.approx(IMAGE * CALLS * (32 + 2 * 16))


def test_shared_weights_are_tuned_once_and_trials_only_sample() -> None:
    own = estimate_run(ready_of(profile={"num_images": 11}))
    assert own.profile == pytest.approx(IMAGE * 10 * 11)  # all exits of an interval in one pass
    shared = estimate_run(ready_of(profile={"num_images": 11}, recipe={"weights": "shared"}))
    assert shared.profile == pytest.approx(own.profile + IMAGE * 3 * 5 * 64)
    assert shared.trials == pytest.approx(IMAGE * 32 * CALLS * 40 * 2 / 3)
    assert estimate_run(ready_of()).profile == 0.0


def test_confirmation_counts_presets_their_opponents_and_some_of_the_front() -> None:
    found = estimate_run(ready_of(*PRESETS))
    held_out = IMAGE * 16 * CALLS * 2
    # Full depth and two presets, two opponents, and two of the front.
    assert found.confirmation == pytest.approx(held_out * (2.0 + 2 * 0.5 + 2 * 0.5))
    assert estimate_run(ready_of(*PRESETS, evaluation={"confirm_seeds": 0})).confirmation == 0.0


def test_retraining_counts_pairs_for_every_training_seed() -> None:
    plain = estimate_run(ready_of(*PRESETS))
    found = estimate_run(ready_of(*PRESETS, evaluation={"confirm_training_seeds": 3}))
    one = IMAGE * (3 * 5 * 64 + 16 * CALLS * 2)
    added = 3 * one * (0.6 + 0.4 + 2 * 0.5)
    assert found.confirmation - plain.confirmation == pytest.approx(added)


def test_final_latencies_take_two_runs_of_each_schedule_per_round() -> None:
    found = estimate_run(ready_of(*PRESETS))
    # Full depth and the presets, and ten searched schedules at most; three rounds.
    assert found.latency == pytest.approx(3 * 2 * (2.0 + 10 * 0.5) * FULL_MS / 1000)
    few = estimate_run(ready_of(*PRESETS, search={"n_trials": 7}))
    assert few.latency == pytest.approx(3 * 2 * (2.0 + 4 * 0.5) * FULL_MS / 1000)


def test_cuda_times_whole_runs_after_a_warm_up() -> None:
    """Nothing is interleaved there; with a device of its own, a trial measures full depth too."""
    runs, on_cpu = 3 + 3, estimate_run(ready_of(*PRESETS))
    shared = estimate_run(ready_of(*PRESETS, resources={"gpus_per_trial": 0.5}))
    assert shared.latency == pytest.approx(runs * (2.0 + 10 * 0.5) * FULL_MS / 1000)
    assert shared.trials == on_cpu.trials
    alone = estimate_run(ready_of(*PRESETS, resources={"gpus_per_trial": 1}))
    in_place = runs * (40 + 2.0 + 37 * 0.5) * FULL_MS / 1000
    assert alone.trials == pytest.approx(on_cpu.trials + in_place)


def test_all_stages_add_up() -> None:
    found = estimate_run(
        ready_of(*PRESETS, profile={"num_images": 11}, resources={"num_workers": 4})
    )
    jobs = found.trials + found.confirmation
    assert found.device == pytest.approx(found.profile + jobs + found.latency)
    alone = found.profile + found.latency + STARTUP_SECONDS
    assert found.wall == pytest.approx(alone + jobs / 4)  # four workers share the jobs


def test_a_check_of_adapters_takes_two_fine_tunes() -> None:
    asked: dict[str, Any] = {"evaluation": {"auditor": "digits_mlp"}}
    plain = estimate_run(ready_of(*PRESETS, **asked))
    found = estimate_run(ready_of(*PRESETS, **asked, recipe={"start": "adapters"}))
    assert plain.start == 0.0
    # D3, which saves most, is judged at three seeds; 96 images at full depth fit the maps.
    share = 0.4
    judged = 3 * 5 * 64 + 3 * 32 * CALLS
    assert found.start == pytest.approx(IMAGE * (2 * share * judged + 96 * CALLS))
    assert found.device == pytest.approx(plain.device + found.start)
    assert found.wall == pytest.approx(plain.wall + found.start)  # one worker


def test_the_disk_holds_weights_of_every_trial_or_one_shared_file() -> None:
    weights, state = 4 * 4 * 6, 4 * 4 * 4 * 6
    assert ready_of().disk_bytes() == 40 * weights + state
    retrained = ready_of(evaluation={"confirm_training_seeds": 3}, resources={"num_workers": 2})
    assert retrained.disk_bytes() == 42 * weights + 2 * state
    # The shared file, and the pretrained weights of full depth.
    assert ready_of(recipe={"weights": "shared"}).disk_bytes() == 2 * weights + state
