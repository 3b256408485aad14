"""Mistakes in the section ``rivals``: one clear line each, with key and remedy."""

from typing import Any

import pytest
from rival_spaces import DEEDIFF, problems_of, read

UVIT = {
    "backbone": {
        "family": "uvit",
        "config": {
            "img_size": 8,
            "patch_size": 2,
            "in_chans": 1,
            "embed_dim": 32,
            "depth": 4,
            "num_heads": 4,
        },
        "checkpoint": None,
    },
    "space": {"num_intervals": 10, "min_depth": 1, "max_depth": 2},
    "warm_start": [],
}


@pytest.mark.parametrize(
    ("entry", "key", "reason"),
    [
        ({"targets": [0.7]}, "kind", "required key is missing; known are schedule, steps"),
        ({"kind": "fora"}, "kind", "unknown kind 'fora'"),
        (
            {"kind": "uncertainty", "targets": [0.75]},
            "trainer",
            "required key is missing",
        ),
        ({"kind": "uncertainty", "trainer": "a:B"}, "", "has no operating point; add one"),
        ({"kind": "similarity", "trainer": "a:B", "targets": [1.5]}, "targets[0]", "must be < 1"),
        ({"kind": "tome", "ratios": [0.9]}, "ratios[0]", "must be <= 0.75, got 0.9"),
        ({"kind": "tome", "ratios": [0.4], "blocks": "X3"}, "blocks", "must be all, F4, R4 or B4"),
        ({"kind": "tome", "ratios": [0.4], "blocks": "F11"}, "blocks", "10 blocks, got F11"),
        ({"kind": "tome", "ratios": [0.4], "blocks": "B3"}, "blocks", "an even number"),
        ({"kind": "steps", "num_steps": [0]}, "num_steps[0]", "must be >= 1, got 0"),
        ({"kind": "fitted_steps", "num_steps": []}, "num_steps", "a list of at least 1"),
        ({"kind": "fitted_steps", "num_steps": [3, 4]}, "num_steps[1]", "has 3 steps, got 4"),
        ({"kind": "fitted_steps", "num_steps": [2, 2]}, "", "names an operating point twice"),
        (
            {"kind": "fitted_steps", "num_steps": [2], "calibration_samples": 0},
            "calibration_samples",
            "must be >= 1, got 0",
        ),
        ({"kind": "schedule", "schedules": ["flat-11"]}, "schedules[0]", "must be in [1, 10]"),
        ({"kind": "schedule", "schedules": ["D3-DIT"]}, "schedules[0]", "did you mean 'D3-DiT'"),
        ({"kind": "schedule", "schedules": ["flat-3", "flat-3"]}, "", "names an operating point"),
        (
            {"kind": "schedule", "schedules": ["flat-3"], "recipe": {"num_stps": 1}},
            "recipe.num_stps",
            "did you mean 'num_steps'",
        ),
        (
            {"kind": "schedule", "schedules": ["flat-3"], "weights": "deediff"},
            "weights",
            "no entry 'deediff' trains a network for all depths",
        ),
        ({"kind": "pruned", "depth": [10]}, "depth[0]", "must be below the 10 exit blocks"),
        ({"kind": "stitch", "small": "no", "shares": [0.4]}, "small", "no row 'no' makes"),
        ({"kind": "block_cache", "every": [2], "scale_shift": "closed_form"}, "scale_shift", ""),
        ({"kind": "residual_cache", "signal": "steps", "targets": [0.7]}, "signal", "takes every"),
        ({"kind": "residual_cache", "signal": "input", "every": [2]}, "signal", "takes every"),
        (
            {"kind": "residual_cache", "signal": "residual", "first": 0, "targets": [0.7]},
            "first",
            "set it to 1 or more",
        ),
        (
            {"kind": "residual_cache", "signal": "residual", "rescale": "poly4", "targets": [0.7]},
            "rescale",
            "remove the key",
        ),
    ],
)
def test_every_mistake_has_its_line(entry: dict[str, Any], key: str, reason: str) -> None:
    (found,) = problems_of({"mine": entry})
    assert found[0] == (f"rivals.mine.{key}" if key else "rivals.mine")
    assert reason in found[1]


@pytest.mark.parametrize(
    ("solver", "betas", "shown"),
    [
        ({"name": "ddpm"}, "linear", "but ddpm draws some"),
        ({"name": "ddim", "eta": 0.5}, "linear", "but ddim with eta: 0.5 draws some"),
        ({"name": "euler_maruyama"}, "vp", "but euler_maruyama draws some"),
    ],
)
def test_steps_are_fitted_to_a_run_without_noise_in_its_steps(
    solver: dict[str, Any], betas: str, shown: str
) -> None:
    entry = {"kind": "fitted_steps", "num_steps": [2]}
    changes = {"solver": solver, "diffusion": {"betas": betas}}
    ((key, text),) = problems_of({"mine": entry}, **changes)
    assert key == "rivals.mine"
    assert shown in text
    assert "use ddim with eta: 0, dpm_solver or flow_euler, or add -o rivals.mine=null" in text


def test_fewer_steps_than_the_solver_takes() -> None:
    """A row that cannot be built is found before the run."""
    solver = {"name": "dpm_solver", "method": "singlestep", "order": 3, "num_steps": 9}
    ((key, text),) = problems_of({"few": {"kind": "steps", "num_steps": [6, 3]}}, solver=solver)
    assert key == "rivals.few.num_steps[1]"
    assert "of order 3 needs at least 4 network calls, got 3" in text


@pytest.mark.parametrize(
    ("rivals", "key", "row", "owner"),
    [
        ({"D4": {"kind": "schedule", "schedules": ["D4-DiT"]}}, "D4", "D4-DiT", "presets"),
        ({"fu": {"kind": "schedule", "schedules": ["full"]}}, "fu", "full", "full"),
        (
            {
                "flat": {"kind": "schedule", "schedules": ["flat-7"]},
                "flat-7": {"kind": "schedule", "schedules": ["flat-7"]},
            },
            "flat-7", "flat-7", "flat",
        ),
        ({"flat": {"kind": "schedule", "schedules": ["flat-7", "7"]}}, "flat", "flat-7", "flat"),
    ],
)  # fmt: skip
def test_two_rows_of_one_name(rivals: Any, key: str, row: str, owner: str) -> None:
    """They would share a folder, and one would be lost."""
    ((at, text),) = problems_of(rivals)
    assert at == f"rivals.{key}"
    assert text == (
        f"its row {row} is also a row of {owner}; rename the entry, or remove the point"
    )


def test_a_smaller_network_has_fewer_blocks() -> None:
    ((key, text),) = problems_of({"small": {"kind": "small", "depth": [8, 12]}})
    assert key == "rivals.small.depth[1]"
    assert "must be below the 10 exit blocks of the backbone, got 12" in text


def test_a_uvit_exit_that_does_not_exist() -> None:
    ((key, text),) = problems_of({"flat": {"kind": "schedule", "schedules": ["flat-3"]}}, **UVIT)
    assert key == "rivals.flat.schedules[0]"
    assert "must be in [0, 2]" in text


def test_a_row_can_be_stitched_to_a_pruned_network_of_another_entry() -> None:
    rivals = {
        "stitch": {"kind": "stitch", "small": "pruned-8", "shares": [0.4]},
        "pruned": {"kind": "pruned", "depth": [8]},
    }
    assert set(read(rivals).rivals) == set(rivals)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({**DEEDIFF, "recipe": {"start": "adapters"}}, "kind schedule without weights"),
        (
            {"kind": "schedule", "schedules": ["full"], "recipe": {"start": "adapters"}},
            "full has no early exit",
        ),
        (
            {"kind": "schedule", "schedules": ["flat-10"], "recipe": {"start": "adapters"}},
            "flat-10 has no early exit",
        ),
    ],
)
def test_adapters_are_for_schedules_that_exit_early(entry: Any, reason: str) -> None:
    ((key, said),) = problems_of({"mine": entry})
    assert key == "rivals.mine.recipe.start"
    assert reason in said
