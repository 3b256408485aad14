"""What a run will take, by its latency table."""

from dataclasses import replace

import pytest
from tiny_runs import write_space

from schedsearch.config import read_settings
from schedsearch.runs.folder import RunFolder
from schedsearch.search.estimates import Estimates
from schedsearch.search.preflight import check_before_start

EVALUATION = {"num_samples": 32, "confirm_seeds": 2, "runoff_seeds": 1, "confirm_samples": 16}
CALLS = 3
"""Network calls per image of the tiny space's solver."""


@pytest.fixture(scope="module")
def estimates(tmp_path_factory: pytest.TempPathFactory) -> Estimates:
    folder = tmp_path_factory.mktemp("estimates")
    space = write_space(
        folder,
        warm_start=["full", "D2-DiT", "D3-DiT"],
        evaluation={**EVALUATION, "confirm_steps": 4},
        recipe={"num_steps": 5, "batch_size": 64},
        search={"n_trials": 40},
        profile={"num_steps": 7, "num_images": 11, "start": "shared"},
    )
    ready = check_before_start(read_settings(space), RunFolder(folder / "run"), dry_run=True)
    return Estimates(ready)


def test_all_stages_are_counted_in_network_calls(estimates: Estimates) -> None:
    """A training step is three passes of its batch; all at full depth."""
    table = estimates._ready.table
    call = (table.a_ms + 10 * table.b_ms) / 8 / 1000  # a batch of 8 through 10 blocks
    assert estimates.trial_seconds() == pytest.approx(call * (3 * 5 * 64 + 32 * CALLS))
    # One shared fine-tune for the weights and the table: 7 steps, then 10 intervals x 9 depths.
    assert estimates.profile_seconds() == pytest.approx(call * (3 * 7 * 64 + 90 * 11))
    # Two presets, their rivals, full depth and three of the front at two seeds, three contenders
    # of each preset at one; all 8 confirmed ones are trained for four further steps.
    images = (8 * 2 + 6 * 1) * 16
    training = 3 * 8 * 4 * 64
    assert estimates.confirmation_seconds() == pytest.approx(call * (images * CALLS + training))


def test_fine_tunes_anew_are_counted(estimates: Estimates) -> None:
    ready = estimates._ready
    evaluation = replace(
        ready.settings.evaluation, confirm_training_seeds=3, runoff_training_seeds=2
    )
    more = Estimates(replace(ready, settings=replace(ready.settings, evaluation=evaluation)))
    call = (ready.table.a_ms + 10 * ready.table.b_ms) / 8 / 1000
    # The two presets and their rivals, three times at two seeds; their six contenders twice at
    # one, instead of once as they are. Each is trained for 5 steps, the former for 4 more.
    images = (4 * 3 * 2 + 6 * 2 * 1 - 6 * 1) * 16
    training = 3 * (4 * 3 * (5 + 4) + 6 * 2 * 5) * 64
    added = more.confirmation_seconds() - estimates.confirmation_seconds()
    assert added == pytest.approx(call * (images * CALLS + training))


def test_a_trial_may_be_several_fine_tunes(estimates: Estimates) -> None:
    ready = estimates._ready
    evaluation = replace(ready.settings.evaluation, seeds_per_trial=3)
    more = Estimates(replace(ready, settings=replace(ready.settings, evaluation=evaluation)))
    assert more.trial_seconds() == pytest.approx(3 * estimates.trial_seconds())
    weights = sum(p.numel() * p.element_size() for p in ready.bench.pretrained.parameters())
    states = more._ready.disk_bytes() - ready.disk_bytes()  # kept until the trial ends
    assert states == 2 * 4 * weights * ready.settings.resources.num_workers


def test_control_images_are_counted(estimates: Estimates) -> None:
    ready = estimates._ready
    assert estimates.control_seconds() == 0.0
    evaluation = replace(ready.settings.evaluation, control_samples=4 * 32)
    more = Estimates(replace(ready, settings=replace(ready.settings, evaluation=evaluation)))
    call = (ready.table.a_ms + 10 * ready.table.b_ms) / 8 / 1000
    assert more.control_seconds() == pytest.approx(call * 4 * 32 * CALLS)


def test_the_disk_holds_one_set_of_shared_weights(estimates: Estimates) -> None:
    ready = estimates._ready
    weights = sum(p.numel() * p.element_size() for p in ready.bench.pretrained.parameters())
    assert ready.disk_bytes() == (40 + 4 * 1 + 1) * weights
    recipe = replace(ready.settings.recipe, num_steps=0)  # trials link to the shared weights
    only = replace(ready, settings=replace(ready.settings, recipe=recipe))
    assert only.disk_bytes() == (4 * 1 + 1) * weights


def test_final_latencies_take_rounds_of_full_depth(estimates: Estimates) -> None:
    full = estimates._ready.latency.full_ms / 1000
    # Twice a preset, three contenders and two spare ones, then full depth and six of the fronts.
    assert estimates.final_latency_seconds() == pytest.approx(19 * 2 * 3 * full)
