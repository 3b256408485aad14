"""Schedules on the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.exceptions import ConfigError
from schedsearch.schedules.argument import resolve_schedule
from schedsearch.schedules.hand_made import preset_for
from schedsearch.schedules.schedule_file import lowest_depth


def test_resolve_schedule(schedule_file_with: Callable[..., Path]) -> None:
    def resolve(spec: str) -> tuple[int, ...]:
        return resolve_schedule(spec, num_exit_blocks=10, family="dit").depths

    assert resolve("full") == (10,) * 10
    assert resolve("D3-DiT") == preset_for("D3-DiT", 10).depths
    assert resolve("9,9,8,8,7,7,6,6,5,5") == (9, 9, 8, 8, 7, 7, 6, 6, 5, 5)
    assert resolve("[9 9 8 8 7 7 6 6 5 5]") == (9, 9, 8, 8, 7, 7, 6, 6, 5, 5)
    assert resolve("4") == (4,) * 10
    assert resolve(str(schedule_file_with())) == (10, 10, 9, 9, 8, 8, 7, 7, 6, 6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("D3-DIT", "did you mean 'D3-DiT'"),
        ("nowhere.yaml", "no schedule file or preset 'nowhere.yaml'; presets are full"),
        ("9,9,8", "needs 10 depths, data to noise, got 3"),
        ("11", r"index 0 of '11' must be in \[1, 10\]"),
        ("9,9,9,0,9,9,9,9,9,9", "index 3"),
        ("9,9-,9", "list of integers"),
    ],
)
def test_schedules_that_are_not(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_schedule(spec, num_exit_blocks=10, family="dit")


def test_a_u_vit_may_run_no_decoder_block(schedule_file_with: Callable[..., Path]) -> None:
    def resolve(spec: str) -> tuple[int, ...]:
        return resolve_schedule(spec, num_exit_blocks=6, family="uvit").depths

    assert [lowest_depth(family) for family in ("dit", "uvit", None, "mine:Net")] == [1, 0, 0, 0]
    assert resolve("2,2,1,0,0,0,0,0,0,0") == (2, 2, 1, 0, 0, 0, 0, 0, 0, 0)
    assert resolve("0") == (0,) * 10
    assert resolve("D6-U-ViT") == (2, 2, 2, 2, 1, 1, 1, 1, 1, 1)
    small = resolve_schedule("D6-U-ViT", num_exit_blocks=1, family="uvit")
    assert small.depths == (1,) * 10, "a preset keeps a block where it rounds to none"
    with pytest.raises(ConfigError, match=r"index 0 of '7' must be in \[0, 6\]"):
        resolve("7")

    file = str(schedule_file_with(("family: dit", "family: uvit"), ("7, 7, 6, 6]", "1, 0, 0, 0]")))
    found = resolve_schedule(file, num_exit_blocks=10, family="uvit")
    assert found.depths == (10, 10, 9, 9, 8, 8, 1, 0, 0, 0)
    assert resolve_schedule(file, num_exit_blocks=10) == found, "any class may have any schedule"
    with pytest.raises(ConfigError, match="for the family uvit, but the backbone is a dit"):
        resolve_schedule(file, num_exit_blocks=10, family="dit")


def test_a_file_for_another_model_is_refused(schedule_file_with: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="for 10 exit blocks, but the backbone has 28"):
        resolve_schedule(str(schedule_file_with()), num_exit_blocks=28)


def test_a_preset_belongs_to_the_clock_of_the_process() -> None:
    assert resolve_schedule("D3-DiT", num_exit_blocks=10, clock="ddpm").clock == "ddpm"
    assert resolve_schedule("D3-DiT@flow", num_exit_blocks=10, clock="flow").clock == "flow"
    with pytest.raises(ConfigError, match="process has the clock flow; use D3-DiT@flow"):
        resolve_schedule("D3-DiT", num_exit_blocks=10, clock="flow")
    with pytest.raises(ConfigError, match="the clock flow, but the model's process has the clock"):
        resolve_schedule("D3-DiT@flow", num_exit_blocks=10, clock="ddpm")
