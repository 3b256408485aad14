"""The warm starts of a search space as schedules."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, read_settings
from schedsearch.search.study.warm_starts import read_warm_starts

SPACE = """\
name: toy
backbone: {family: dit, config: {depth: 10, hidden_size: 64, num_heads: 4, input_size: 8, \
in_channels: 1, num_classes: 10}, checkpoint: package:digits_dit.safetensors}
data: {source: digits}
space: {min_depth: 2, max_depth: 10}
trainer: schedsearch.schedules.space:SearchSpace
recipe: {num_steps: 1, batch_size: 1, lr: 1}
search: {n_trials: 4}
warm_start: [full, D3-DiT, D3-DiT, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10], mine.yaml]
"""


def test_warm_starts_are_scaled_read_and_made_unique(
    schedule_file_with: Callable[..., Path],
) -> None:
    space = schedule_file_with().parent / "space.yaml"
    space.write_text(SPACE)
    starts = read_warm_starts(read_settings(space), 10)
    assert [(s.label, s.schedule.depths) for s in starts] == [
        ("full", (10,) * 10),
        ("D3-DiT", (10, 10, 9, 9, 7, 7, 6, 6, 4, 4)),
        ("mine", (10, 10, 9, 9, 8, 8, 7, 7, 6, 6)),
    ]
    with pytest.raises(InvalidFileError, match="at least the 3 different warm starts, got 2"):
        read_warm_starts(read_settings(space, ["search.n_trials=2"]), 10)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("6, 6]", "6, 1]", r"warm_start\[4\]: mine .* is not in the space: interval 9 runs 1"),
        ("num_exit_blocks: 10", "num_exit_blocks: 12", "for 12 exit blocks, but the backbone"),
        ("6, 6]", "6, 99]", r"mine\.yaml:4:39: depths\[9\]: must be in"),
    ],
)
def test_wrong_warm_start_files(
    schedule_file_with: Callable[..., Path], old: str, new: str, message: str
) -> None:
    space = schedule_file_with((old, new)).parent / "space.yaml"
    space.write_text(SPACE)
    with pytest.raises(InvalidFileError, match=message):
        read_warm_starts(read_settings(space), 10)
