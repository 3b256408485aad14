"""The hand-made schedules of ASE, Table 5."""

import math

import pytest

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, HAND_MADE, preset_for, presets, scale_depth

TABLE_5 = {
    "D2-DiT": (28, 28, 25, 25, 22, 22, 19, 19, 16, 16),
    "D3-DiT": (28, 28, 24, 24, 20, 20, 16, 16, 12, 12),
    "D4-DiT": (28, 28, 26, 24, 20, 18, 12, 10, 8, 8),
    "D7-DiT": (28, 28, 24, 21, 18, 15, 10, 10, 8, 8),
    "D1-U-ViT": (6, 6, 4, 4, 2, 2, 2, 2, 1, 1),
    "D2-U-ViT": (5, 5, 4, 4, 2, 2, 1, 1, 1, 1),
    "D3-U-ViT": (3, 3, 2, 2, 2, 2, 1, 1, 1, 1),
    "D6-U-ViT": (2, 2, 2, 2, 1, 1, 1, 1, 1, 1),
}


def test_values_of_table_5() -> None:
    assert {name: row.schedule.depths for name, row in HAND_MADE.items()} == TABLE_5
    assert {name: presets[name].depths for name in TABLE_5} == TABLE_5
    assert set(presets) == {*TABLE_5, *(f"{name}@flow" for name in TABLE_5)}
    assert all(schedule.is_nonincreasing for schedule in presets.values())


@pytest.mark.parametrize("name", TABLE_5)
def test_own_depth_is_the_identity(name: str) -> None:
    assert preset_for(name, HAND_MADE[name].num_exit_blocks) == presets[name]


@pytest.mark.parametrize("new", range(1, 41))
def test_scaling_is_the_documented_formula(new: int) -> None:
    for row in HAND_MADE.values():
        for depth in row.schedule.depths:
            # Exact, unlike floats, where a half may fall on either side.
            expected = math.floor(depth * new / row.num_exit_blocks + 0.5)
            assert scale_depth(depth, old=row.num_exit_blocks, new=new) == expected


def test_scaled_to_ten_blocks() -> None:
    assert preset_for("D3-DiT", 10).depths == (10, 10, 9, 9, 7, 7, 6, 6, 4, 4)
    assert preset_for("D7-DiT", 10, min_depth=4).depths == (10, 10, 9, 8, 6, 5, 4, 4, 4, 4)
    assert preset_for("D2-DiT", 10, max_depth=8).depths == (8, 8, 8, 8, 8, 8, 7, 7, 6, 6)
    assert preset_for(FULL, 10) == ExitSchedule.flat(10)


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="item assignment"):
        presets["mine"] = ExitSchedule((1,))  # type: ignore[index]
    with pytest.raises(KeyError, match="D9-DiT"):
        preset_for("D9-DiT", 10)
