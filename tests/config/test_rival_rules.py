"""Mistakes in the section ``rivals``: one clear line each, with key and remedy."""

from typing import Any

import pytest
import yaml
from tiny_runs import tiny_space

from schedsearch.config import dump_settings, settings_from_text
from schedsearch.config.rival_rules import merged_recipe, schedule_at
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import InvalidFileError
from schedsearch.settings.rivals import UncertaintyRival

DEEDIFF = {
    "kind": "uncertainty",
    "trainer": "trainers.deediff:DeeDiffTrainer",
    "targets": [0.75],
    "recipe": {"num_steps": 7},
    "extra": {"beta": 0.5},
}
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


def read(rivals: Any, **changes: Any) -> Any:
    return settings_from_text(yaml.safe_dump(tiny_space(rivals=rivals, **changes)))


def problems_of(rivals: Any, **changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFileError) as caught:
        read(rivals, **changes)
    return [(p.key, f"{p.reason}; {p.remedy}") for p in caught.value.problems]


def test_a_section_survives_writing_and_reading() -> None:
    settings = read({"deediff": DEEDIFF, "flat": {"kind": "schedule", "schedules": [[4] * 10]}})
    assert isinstance(settings.rivals["deediff"], UncertaintyRival)
    assert settings_from_text(dump_settings(settings)) == settings


def test_no_section_is_no_rivals() -> None:
    assert read(None).rivals == {}
    assert settings_from_text(yaml.safe_dump(tiny_space())).rivals == {}


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


def test_null_removes_an_entry() -> None:
    """A shipped space has entries that another solver refuses: ``-o rivals.fitted=null``."""
    assert read({"mine": None}, solver={"name": "ddpm"}).rivals == {}


def test_fewer_steps_than_the_solver_takes() -> None:
    """A row that cannot be built is found before the run."""
    solver = {"name": "dpm_solver", "method": "singlestep", "order": 3, "num_steps": 9}
    ((key, text),) = problems_of({"few": {"kind": "steps", "num_steps": [6, 3]}}, solver=solver)
    assert key == "rivals.few.num_steps[1]"
    assert "of order 3 needs at least 4 network calls, got 3" in text


@pytest.mark.parametrize("name", ["full", "presets", "a b", "1st", "x" * 50])
def test_names_that_cannot_be_folders_or_are_taken(name: str) -> None:
    ((key, text),) = problems_of({name: {"kind": "steps", "num_steps": [3]}})
    assert key == f"rivals.{name}"
    assert "cannot name an entry" in text


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


def test_the_recipe_of_an_entry_holds_over_that_of_the_space() -> None:
    settings = read({"deediff": DEEDIFF}, recipe={"extra": {"alpha": 1}})
    merged = merged_recipe(settings.recipe, settings.rivals["deediff"])
    assert merged["num_steps"] == 7
    assert merged["batch_size"] == settings.recipe.batch_size
    assert merged["extra"] == {"alpha": 1, "beta": 0.5}


def test_points_of_schedules() -> None:
    assert schedule_at("flat-4", 10, 10, "dit").depths == (4,) * 10
    assert schedule_at("full", 10, 10, "dit").depths == (10,) * 10
    assert schedule_at("5 5 5 5 5 4 4 4 4 4", 10, 10, "dit").depths[-1] == 4
    assert schedule_at("flat-0", 6, 10, "uvit").depths == (0,) * 10
    with pytest.raises(ConfigError, match="unknown schedule 'no'"):
        schedule_at("no", 10, 10, "dit")


CALM = {"kind": "similarity", "trainer": "a:B", "targets": [0.75], "thresholds": [0.99]}


def test_the_twin_of_a_dynamic_row_is_a_warm_start() -> None:
    starts = ["full", "twin:deediff-0.75", "twin:calm-t0.99", "twin:calm-t0.99"]
    settings = read({"deediff": DEEDIFF, "calm": CALM}, warm_start=starts)
    assert settings.warm_start == tuple(starts)
    assert settings_from_text(dump_settings(settings)) == settings


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("twin:deedif-0.75", "no row 'deedif-0.75' in rivals; did you mean 'twin:deediff-0.75'?"),
        ("twin:deediff", "no row 'deediff' in rivals; did you mean 'twin:deediff-0.75'?"),
        ("twin:", "no row '' in rivals; "),
        ("twin:fora-2", "the row 'fora-2' of rivals is not dynamic, so it has no static twin; "),
        ("twim:x", "unknown schedule 'twim:x'; known are full, D2-DiT"),
    ],
)
def test_a_twin_needs_a_dynamic_row(entry: str, reason: str) -> None:
    rivals = {"deediff": DEEDIFF, "fora": {"kind": "block_cache", "every": [2]}}
    ((key, text),) = problems_of(rivals, warm_start=["full", entry])
    assert key == "warm_start[1]"
    assert reason in text


def test_a_twin_needs_rivals() -> None:
    ((key, text),) = problems_of(None, warm_start=["twin:deediff-0.75"])
    assert key == "warm_start[0]"
    assert "add an entry of kind uncertainty or similarity to rivals" in text


def test_the_twin_of_a_wrong_entry_is_no_second_mistake() -> None:
    wrong = {**DEEDIFF, "targets": [1.5]}
    ((key, _),) = problems_of({"deediff": wrong}, warm_start=["twin:deediff-0.75"])
    assert key == "rivals.deediff.targets[0]"


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
