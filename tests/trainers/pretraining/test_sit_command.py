"""A SiT trained from scratch: its process, its file, and the defaults."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny_runs import same_weights

import schedsearch
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.sit import SiT
from trainers.pretraining import command
from trainers.pretraining.command import diffusion_of
from trainers.pretraining.sit import DEFAULTS, build_net, build_parser, main

NETWORK = ["--hidden-size", "16", "--depth", "2", "--num-heads", "2", "--batch-size", "4"]


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(12) % 3)
    return tmp_path / "train.npz"


def test_writes_weights_of_a_sit_that_samples(tmp_path: Path, tiles: Path) -> None:
    out = tmp_path / "sit.safetensors"
    arguments = [*NETWORK, "--path", str(tiles), "--steps", "3"]
    assert main([*arguments, "--output", str(out), "--half"]) == 0
    assert {value.dtype.itemsize for value in load_file(out).values()} == {2}
    config = {"input_size": 32, "patch_size": 4, "in_channels": 3, "hidden_size": 16, "depth": 2}
    section = {
        "family": "sit",
        "config": {**config, "num_heads": 2, "num_classes": 3},
        "checkpoint": str(out),
    }
    net = schedsearch.load_backbone(section)
    assert type(net) is SiT
    images = schedsearch.sample(
        net,
        schedsearch.ExitSchedule((2,) * 5 + (1,) * 5),
        solver="flow_euler",
        num_steps=4,
        num=3,
        cfg_scale=1.5,
    )
    assert images.shape == (3, 3, 32, 32)
    assert images.isfinite().all()
    again = tmp_path / "again.safetensors"
    assert main([*arguments, "--output", str(again), "--half"]) == 0
    assert same_weights(out, again)


def test_the_process_is_flow_matching_with_uniform_times(tmp_path: Path, tiles: Path) -> None:
    args = build_parser().parse_args(["--path", str(tiles), "--output", "x"])
    diffusion = diffusion_of(args)
    assert (diffusion.process, diffusion.time, diffusion.times) == ("flow", "sit", "uniform")
    assert diffusion.prediction == "velocity"
    assert args.data == "npz"
    assert args.steps == DEFAULTS.steps


def test_the_default_network_ships_within_eight_megabytes() -> None:
    args = build_parser().parse_args(["--output", "x"])
    net = build_net(SiT, args, (3, 32, 32), 5, null_class=True)
    assert net.num_exit_blocks >= 10
    assert net.null_label == 5
    parameters = sum(p.numel() for p in net.parameters())
    assert 2 * parameters < 8e6, "two bytes each in half precision"
    assert isinstance(net, DiT)
    assert not net.learn_sigma


def test_other_data_brings_its_own_shape(tmp_path: Path) -> None:
    out = tmp_path / "digits.safetensors"
    flags = ["--data", "digits", "--patch-size", "2", "--steps", "2"]
    assert main([*NETWORK, *flags, "--output", str(out)]) == 0
    assert load_file(out)["x_embedder.proj.weight"].shape == (16, 1, 2, 2)


def test_images_are_needed(tmp_path: Path, capsys) -> None:
    assert main([*NETWORK, "--output", str(tmp_path / "x.safetensors")]) == 2
    assert "--data npz needs --path" in capsys.readouterr().err
    assert command.STATE_SUFFIX not in str(list(tmp_path.iterdir()))
