from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import same_weights

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.settings import DiffusionSettings
from trainers.pretraining.command import _plan, diffusion_of
from trainers.pretraining.dit import DEFAULTS, build_parser, main
from trainers.pretraining.loop import Plan

NETWORK = ["--hidden-size", "16", "--depth", "2", "--num-heads", "2"]
ARGUMENTS = ["--steps", "3", *NETWORK]


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
    assert str(tmp_path) not in str(metadata)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]
    again = tmp_path / "again.safetensors"
    main([*ARGUMENTS, "--output", str(again), "--seed", "3"])
    assert same_weights(path, again)


def test_defaults_are_those_that_made_the_shipped_weights() -> None:
    args = build_parser().parse_args(["--output", "x"])
    assert (args.data, args.seed) == ("digits", 0)
    assert diffusion_of(args) == DiffusionSettings(betas="linear", prediction="eps")
    assert (args.hidden_size, args.depth, args.num_heads, args.patch_size) == (64, 10, 4, 2)
    assert _plan(args) == Plan(
        steps=12_000,
        batch_size=64,
        lr=2e-3,
        adam_betas=(0.9, 0.99),
        weight_decay=0.0,
        warmup_steps=100,
        decay_share=0.4,
        ema_decay=0.999,
        label_dropout=0.1,
        precision="fp32",
        seed=0,
    )


def test_every_number_of_the_plan_has_a_flag() -> None:
    flags = (
        "--steps 5 --batch-size 6 --lr 0.7 --adam-betas 0.8 0.85 --weight-decay 0.01 "
        "--warmup-steps 2 --decay-share 0.3 --ema-decay 0.45 --label-dropout 0.6 "
        "--precision bf16 --seed 9"
    )
    plan = Plan(
        steps=5,
        batch_size=6,
        lr=0.7,
        adam_betas=(0.8, 0.85),
        weight_decay=0.01,
        warmup_steps=2,
        decay_share=0.3,
        ema_decay=0.45,
        label_dropout=0.6,
        precision="bf16",
        seed=9,
    )
    assert all(
        getattr(plan, field.name) != getattr(DEFAULTS, field.name) for field in fields(Plan)
    )
    assert _plan(build_parser().parse_args([*flags.split(), "--output", "x"])) == plan


def test_any_source_and_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archive = tmp_path / "images.npz"
    images = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(archive, images=images, labels=np.arange(20) % 4)
    out = tmp_path / "npz.safetensors"
    size = ["--input-size", "8", "--in-channels", "3"]
    common = [*ARGUMENTS, *size, "--betas", "vp", "--prediction", "v", "--precision", "bf16"]
    assert main([*common, "--data", "npz", "--path", str(archive), "--output", str(out)]) == 0
    assert load_file(out)["y_embedder.embedding_table.weight"].shape == (5, 16)  # and "no class"
    main([*common, "--data", "npz", "--path", str(archive), "--output", str(out), "--label", "0"])
    assert load_file(out)["y_embedder.embedding_table.weight"].shape == (4, 16)

    for name, image in zip("ab", images, strict=False):
        (tmp_path / "folder" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "folder" / name / "0.png")
    folder = ["--data", "image_folder", "--path", str(tmp_path / "folder"), "--unconditional"]
    assert main([*common, *folder, "--output", str(out)]) == 0
    assert load_file(out)["y_embedder.embedding_table.weight"].shape == (1, 16)
    flipped = tmp_path / "flipped.safetensors"
    assert main([*common, *folder, "--flip", "--output", str(flipped)]) == 0
    assert not same_weights(out, flipped)


def test_flow_matching(tmp_path: Path) -> None:
    path, flow = tmp_path / "flow.safetensors", ["--process", "flow", "--time", "sit"]
    more = ["--times", "logit_normal", "--shift", "2"]
    assert diffusion_of(build_parser().parse_args([*flow, *more, "--output", "x"])) == (
        DiffusionSettings(process="flow", time="sit", times="logit_normal", shift=2.0)
    )
    assert main([*ARGUMENTS, *flow, *more, "--output", str(path)]) == 0
    with safe_open(path, "pt") as file:
        shown = "process flow, time sit, prediction velocity, times logit_normal, shift 2.0"
        assert file.metadata()["diffusion"] == shown
    uniform = tmp_path / "uniform.safetensors"
    main([*ARGUMENTS, *flow, "--output", str(uniform)])
    assert not same_weights(path, uniform)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--process", "flow"], "diffusion.time: process: flow must say how the network is fed"),
        (["--time", "sit"], "diffusion.time: belongs to flow matching, got 'sit'"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--lr", "-1"], "--lr must be above 0, got -1.0"),
        (["--adam-betas", "2", "3"], "--adam-betas must be two numbers in [0, 1), got 2.0 3.0"),
        (["--adam-betas", "0.9", "1"], "--adam-betas must be two numbers in [0, 1), got 0.9 1.0"),
        (["--adam-betas", "-0.1", "0.9"], "--adam-betas must be two numbers in [0, 1), got -0.1"),
        (["--weight-decay", "-0.5"], "--weight-decay must be at least 0, got -0.5"),
        (["--ema-decay", "1"], "--ema-decay must be in [0, 1), got 1.0"),
        (["--patch-size", "3"], "patch_size must divide input_size, got 3 and 8"),
        (["--data", "npz", "--path", "x.npz"], "give --input-size and --in-channels"),
        (
            ["--data", "npz", "--path", "x.npz", "--input-size", "8", "--in-channels", "1"],
            "the file x.npz does not exist",
        ),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    assert main([*ARGUMENTS, *arguments, "--output", str(tmp_path / "x")]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    torch.set_num_threads(threads)


def test_half_writes_float16_weights_that_load(tmp_path: Path) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    assert main([*ARGUMENTS, "--output", str(full)]) == 0
    assert main([*ARGUMENTS, "--half", "--output", str(half)]) == 0
    assert {value.dtype for value in load_file(half).values()} == {torch.float16}
    net = DiT(8, 2, 1, 16, 2, 2, num_classes=10, learn_sigma=False)
    assert "float16 to" in str(load_weights(net, half))
    for name, value in load_file(full).items():
        torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-3, atol=1e-3)
