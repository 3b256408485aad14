"""How well DeeDiff's uncertainty module knows the error, and what decides its exits.

    python -m benchmarks.uncertainty digits_dit runs/digits_dit/methods/deediff-0.75/method.yaml

Shapes: S steps, N images, C/H/W image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.recorded_exits import record
from schedsearch.backbones.every_exit import exit_points, run_exits
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.protocols import NoiseProcess, TrainingData

INTERVALS = 10
NUM_IMAGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Uncertainty and error at one time, means over exits."""

    clock: float
    error: float
    """Mean of tanh |error|, which the module shall predict (DeeDiff, Eq. 9)."""
    predicted: float
    """Mean of what it predicts."""
    correlation: float
    """Pearson correlation over images."""


@torch.inference_mode()
def agreements(
    net: WithUncertainty, data: TrainingData, process: NoiseProcess, num_images: int, seed: int
) -> list[Agreement]:
    """Compare the module with the true error at the middle of ten equal intervals.

    Args:
        net: A network with a trained module of variant ``paper``, in eval mode.
        data: Images and labels, drawn with replacement.
        process: Forward process and prediction target.
        num_images: Images N, the same at all times, with the same noise.
        seed: Seed of images and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = data.batch(num_images, generator)
    noise = torch.randn(images.shape, generator=generator)
    found = []
    for interval in range(INTERVALS):
        clock = torch.full((num_images,), (interval + 0.5) * 1000 / INTERVALS).round()
        x, time = process.q_sample(images, clock, noise), process.network_time(clock)
        target = process.target(images, clock, noise)
        errors, predicted = [], []  # (N,) per exit
        for number, (output, tokens) in enumerate(
            run_exits(net, x, time, labels, exit_points(net))
        ):
            errors.append((output[:, : target.shape[1]] - target).abs().tanh().flatten(1).mean(1))
            predicted.append(net.uem.mean_uncertainty(tokens, number))
        found.append(
            Agreement(
                clock=float(clock[0]),
                error=float(torch.stack(errors).mean()),
                predicted=float(torch.stack(predicted).mean()),
                correlation=sum(map(correlation, errors, predicted)) / len(errors),
            )
        )
    return found


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of two vectors; 0 where one is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else 0.0


def explained_by_step(depths: Sequence[Sequence[int]]) -> float:
    """Share of the variance of the exit depth that the solver step explains.

    Args:
        depths: Blocks per step and image, (S, N).
    """
    values = torch.tensor(depths, dtype=torch.float64)
    total = float(values.var(correction=0))
    return 1.0 if total == 0 else float(values.mean(1).var(correction=0)) / total


def page(rows: Sequence[Agreement], explained: float) -> str:
    """The table in Markdown."""
    lines = ["| clock | error | predicted | correlation over images |", "|---|---|---|---|"]
    lines += [
        f"| {row.clock:.0f} | {row.error:.3f} | {row.predicted:.3f} | {row.correlation:.2f} |"
        for row in rows
    ]
    return "\n".join([*lines, "", f"The step explains {explained:.1%} of the exit depth."])


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="How well an uncertainty module knows the error.")
    parser.add_argument("space", help="search space of the comparison")
    parser.add_argument("method", help="method.yaml of a row of kind uncertainty")
    parser.add_argument("--num-images", type=int, default=NUM_IMAGES, help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    from schedsearch.backbones.weights.checkpoint import load_backbone_from
    from schedsearch.config import read_settings
    from schedsearch.data.loading import load_source
    from schedsearch.diffusion.process import build_process
    from schedsearch.methods.loading import load_method

    args = build_parser().parse_args(argv)
    settings, method = read_settings(args.space), load_method(args.method)
    base: Any = load_backbone_from(settings.backbone)
    net = cast(WithUncertainty, method.network(base))
    rows = agreements(
        net,
        load_source(settings.data, net.in_shape),
        build_process(settings.diffusion),
        args.num_images,
        seed=0,
    )
    print(page(rows, explained_by_step(record(args.space, args.method).depths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
