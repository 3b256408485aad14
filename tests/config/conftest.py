from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = """\
name: toy
backbone:
  family: dit
  config: {input_size: 8, patch_size: 2, in_channels: 1, hidden_size: 64, depth: 10, \
num_heads: 4, num_classes: 10}
  checkpoint: weights.pt
data: {source: digits}
space: {min_depth: 2, max_depth: 10}
warm_start: [full, D3-DiT]
trainer: schedsearch.schedules.space:SearchSpace
recipe: {num_steps: 10, batch_size: 8, lr: 1e-5}
search: {n_trials: 4}
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A valid file with the weights that it names."""
    (tmp_path / "weights.pt").write_bytes(b"")
    file = tmp_path / "space.yaml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def edited(good: Path) -> Callable[..., Path]:
    """Replaces pieces of the valid file, each of which must occur."""

    def edit(*pairs: tuple[str, str]) -> Path:
        text = good.read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        good.write_text(text)
        return good

    return edit
