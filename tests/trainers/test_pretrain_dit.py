from pathlib import Path

import pytest
from safetensors import safe_open

from schedsearch.backbones.checkpoint import load_weights
from schedsearch.backbones.dit import DiT
from trainers.pretrain_dit import lr_factor, main

ARGUMENTS = ["--steps", "3", "--hidden-size", "16", "--depth", "2", "--num-heads", "2"]


def test_writes_weights_that_load_with_their_history(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    assert main([*ARGUMENTS, "--output", str(path), "--seed", "3"]) == 0
    net = DiT(8, 2, 1, 16, 2, 2, num_classes=10, learn_sigma=False)
    load_weights(net, path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["seed"] == "3"
    assert metadata["steps"] == "3"
    assert "--hidden-size 16" in metadata["command"]
    again = tmp_path / "again.safetensors"
    main([*ARGUMENTS, "--output", str(again), "--seed", "3"])
    other = DiT(8, 2, 1, 16, 2, 2, num_classes=10, learn_sigma=False)
    load_weights(other, again)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert a.equal(b)


def test_learning_rate_is_a_trapezoid() -> None:
    factors = [lr_factor(step, 1000) for step in range(1000)]
    assert factors[:3] == pytest.approx([0.01, 0.02, 0.03])
    assert factors[99:600] == [1.0] * 501
    assert factors[800] == pytest.approx(0.5)
    assert factors[999] == pytest.approx(1 / 400)
