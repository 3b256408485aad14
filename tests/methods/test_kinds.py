"""Numbers that are not those of their kind: every mistake is one clear line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.kinds import _BUILDERS, build_method, numbers_of
from schedsearch.methods.loading import load_method
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.backbones.small_models import DEPTH, make_dit
from tests.methods.test_method_loading import NUMBERS, sample, write


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("schedule", {"depths": None}, "depths: required key is missing"),
        ("schedule", {"depths": []}, "depths: must be a list of at least 1 entries"),
        ("schedule", {"depths": [5, 6]}, "there are 5 exit blocks, got 6"),
        ("schedule", {"depths": [5, -1]}, r"depths\[1\]: must be >= 0, got -1"),
        ("schedule", {"depths": "5"}, "depths: must be a list, got the text '5'"),
        ("uncertainty", {"threshold": "low"}, "threshold: must be a number, got the text 'low'"),
        ("uncertainty", {"decide": "everyone"}, "decide: must be sample or batch"),
        ("similarity", {"min_blocks": 1}, "min_blocks must be at least 2"),
        ("tome", {"ratio": None}, "ratio: required key is missing"),
        ("tome", {"parts": "mlp"}, "parts: must be a list, got the text 'mlp'"),
        ("tome", {"parts": ["mpl"]}, r"parts\[0\]: must be attention or mlp"),
        ("block_cache", {"recompute": None}, "takes either every or recompute"),
        ("block_cache", {"every": 2}, "takes either every or recompute"),
        ("block_cache", {"recompute": ["11", "1"]}, "texts of 0 and 1, all of the same length"),
        ("block_cache", {"recompute": ["1121x"]}, "texts of 0 and 1, all of the same length"),
        ("block_cache", {"recompute": []}, "recompute: must be a list of at least 1"),
        ("block_cache", {"recompute": ["11111"] * 4}, "are not of 4 steps and 5 blocks"),
        ("block_cache", {"recompute": None, "every": 0}, "every: must be >= 1, got 0"),
        ("residual_cache", {"signal": "inputs"}, "signal: must be steps, residual or input"),
        ("residual_cache", {"first": "one"}, "first: must be an integer, got the text 'one'"),
        ("residual_cache", {"every": 0}, "needs every with signal: steps"),
        ("residual_cache", {"treshold": 1}, "treshold: unknown key"),
        ("stitch", {"share": 1.5}, r"share must lie in \[0, 1\], got 1.5"),
        ("stitch", {"share": None}, "share: required key is missing"),
        ("steps", {"num_steps": 3}, "num_steps: unknown key"),
        ("fitted_steps", {"output": "eps"}, "output: must be noise, data or velocity"),
        ("fitted_steps", {"times": []}, "times: must be a list of at least 1"),
        ("fitted_steps", {"times": [950, 650]}, "must be one per time, 2, got 3"),
        ("fitted_steps", {"times": [950, 350, 650]}, "times: must fall from noise to data"),
        ("fitted_steps", {"times": [1001, 650, 350]}, r"times\[0\]: must be <= 1000.0, got 1001"),
        ("fitted_steps", {"times": [950, "x", 350]}, r"times\[1\]: must be a number"),
        ("fitted_steps", {"coefficients": None}, "coefficients: required key is missing"),
        (
            "fitted_steps",
            {"coefficients": [[1, 0, 0.5]] * 3},
            r"\[0\]\[2\]: the first step has no",
        ),
        ("fitted_steps", {"coefficients": [[1, 0, 0], [1, 0], [1, 0, 0]]}, "lacks entry 2"),
        ("fitted_steps", {"coefficients": [[1, True, 0]] * 3}, "are not numbers|be a number"),
        ("fitted_steps", {"cfg_scale": 0.5}, "cfg_scale: must be >= 1.0, got 0.5"),
    ],
)
def test_damaged_numbers(tmp_path: Path, kind: str, changes: dict[str, Any], message: str) -> None:
    numbers = {k: v for k, v in {**NUMBERS[kind], **changes}.items() if v is not None}
    file = write(tmp_path, kind, numbers=numbers)
    with pytest.raises(ConfigError, match=message) as caught:
        load_method(file)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{file}: ")


@pytest.mark.parametrize("kind", sorted(_BUILDERS))
@pytest.mark.parametrize("numbers", [{"nothing": 1}, {"threshold": float("nan")}])
def test_numbers_of_no_kind(kind: str, numbers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_method(kind, numbers, None, DEPTH)
    assert len(str(caught.value).splitlines()) == 1


def test_more_first_blocks_than_the_network_has(tmp_path: Path) -> None:
    numbers = {"first": 6, "signal": "steps", "every": 2}
    loaded = load_method(write(tmp_path, "residual_cache", numbers=numbers))
    with pytest.raises(ConfigError, match="first and last must be at most the network"):
        sample(make_dit().eval(), loaded)


# ---- scale and shift ----------------------------------------------------------------------------


def test_scale_and_shift_without_their_weights(tmp_path: Path) -> None:
    file = write(tmp_path, "block_cache", weights=None)
    with pytest.raises(ConfigError, match="scale_shift needs weights beside the file"):
        load_method(file)


@pytest.mark.parametrize("damage", ["gone", "text", "other"])
def test_damaged_scale_and_shift(tmp_path: Path, damage: str) -> None:
    file, weights = write(tmp_path, "block_cache"), tmp_path / "own.safetensors"
    weights.unlink()
    if damage == "text":
        weights.write_text("no tensors")
    elif damage == "other":
        save_file({"gamma": torch.ones(3, DEPTH, 2, 32)}, weights)
    with pytest.raises(CheckpointError, match=r"(Cannot read|holds no scale).*Restore it"):
        load_method(file)


def test_without_scale_and_shift_the_weights_are_not_read(tmp_path: Path) -> None:
    numbers = {**NUMBERS["block_cache"], "scale_shift": False}
    corrected = sample(make_dit().eval(), load_method(write(tmp_path, "block_cache")))
    plain = load_method(write(tmp_path, "block_cache", numbers=numbers))
    images = sample(make_dit().eval(), plain)
    assert not torch.equal(corrected, images)
    (tmp_path / "own.safetensors").unlink()
    assert torch.equal(sample(make_dit().eval(), load_method(plain.path)), images)


def test_a_schedule_keeps_its_edges_and_its_clock() -> None:
    plain, edges = ExitSchedule((5, 4, 3)), (0.0, 250.0, 600.0, 1000.0)
    assert numbers_of(plain, "ddpm") == {"depths": [5, 4, 3]}
    numbers = numbers_of(ExitSchedule((5, 4, 3), edges), "flow")
    assert numbers == {"depths": [5, 4, 3], "edges": list(edges), "clock": "flow"}
    for given, schedule, clock in (
        (numbers_of(plain, "ddpm"), plain, "ddpm"),
        (numbers, ExitSchedule((5, 4, 3), edges), "flow"),
    ):
        found = build_method("schedule", given, None, 5)
        assert found == schedule
        assert isinstance(found, ExitSchedule)
        assert found.clock == clock
    with pytest.raises(ConfigError, match="3 intervals have 4 edges, got 2"):
        build_method("schedule", {"depths": [5, 4, 3], "edges": [0, 1000]}, None, 5)
