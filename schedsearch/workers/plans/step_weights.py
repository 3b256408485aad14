"""How much an error at one solver step changes the final sample."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from schedsearch.evaluation.sampling import generate
from schedsearch.methods.plans.perturbation import (
    Disturbed,
    OutputRecording,
    OutputRun,
    miss_size,
)
from schedsearch.protocols import Backbone, Solver

MOST_STEPS = 60
"""Steps that are disturbed at most; weights of the others are interpolated."""


def measure_step_weights(
    net: Backbone,
    solver: Solver,
    noise: Tensor,
    labels: Tensor | None,
    *,
    cfg_scale: float = 1.0,
    cfg_channels: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Squared change of every final sample per squared error of one step's prediction.

    One batch: its full-depth run is recorded, then repeated once per step with the error that
    plain reuse makes there. That takes about S / 2 sampling runs.

    Args:
        net: The network, in eval mode.
        solver: The solver, with S network calls.
        noise: Starting noise of the batch, (N, C, H, W).
        labels: Labels, (N,), or None.
        cfg_scale: Scale of classifier-free guidance.
        cfg_channels: Number of guided channels; None guides all.
        seed: Seed of the noise that a stochastic solver adds.

    Returns:
        Weights, (S, N) float64; 0 at the first step, which nothing can replace.
    """
    runs: list[OutputRun] = []

    def sample(method: OutputRecording | Disturbed) -> Tensor:
        return generate(
            net,
            method,
            solver,
            noise,
            labels,
            len(noise),
            cfg_scale=cfg_scale,
            cfg_channels=cfg_channels,
            seed=seed,
            observe=lambda run: runs.append(run) if isinstance(run, OutputRun) else None,
        ).double()

    undisturbed = sample(OutputRecording())
    (recorded,) = runs
    weights = torch.zeros(len(solver.times), len(noise), dtype=torch.float64)
    weighed = _weighed(len(solver.times))
    for step in weighed:
        moved = (sample(Disturbed(recorded, step)) - undisturbed).square().flatten(1).mean(1)
        size = miss_size(recorded, step, net.in_shape[0], cfg_scale, cfg_channels)
        weights[step] = torch.where(size > 0, moved / size, 0.0)
    for before, after in itertools.pairwise(weighed):
        for step in range(before + 1, after):
            share = (step - before) / (after - before)
            weights[step] = torch.lerp(weights[before], weights[after], share)
    return weights


def _weighed(num_steps: int) -> list[int]:
    """The steps that are disturbed: all but the first, or evenly spaced ones of many."""
    if num_steps - 1 <= MOST_STEPS:
        return list(range(1, num_steps))
    spacing = (num_steps - 2) / (MOST_STEPS - 1)
    return [round(1 + index * spacing) for index in range(MOST_STEPS)]
