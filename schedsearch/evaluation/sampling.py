"""Seeded sampling: an image's noise depends only on the seed and its index."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from schedsearch.backbones.guidance import GuidedDenoiser
from schedsearch.methods.loading import LoadedMethod
from schedsearch.protocols import Backbone, Method, NetworkCall, Solver
from schedsearch.schedules.argument import check_clock
from schedsearch.schedules.exit_schedule import ExitSchedule


def starting_noise(seed: int, num: int, in_shape: tuple[int, int, int]) -> Tensor:
    """Draw the starting noise, with one generator per image (as in NVlabs/edm2).

    So results do not depend on the batch size, and a larger evaluation starts with the images
    of a smaller one.

    Args:
        seed: Evaluation seed, >= 0.
        num: Number of images.
        in_shape: Shape (C, H, W) of one input.

    Returns:
        Noise, (num, C, H, W) float32 on the CPU.
    """
    noise = np.empty((num, *in_shape), dtype=np.float32)
    for index in range(num):
        noise[index] = np.random.default_rng([seed, index]).standard_normal(
            in_shape, dtype=np.float32
        )
    return torch.from_numpy(noise)


def balanced_labels(num: int, num_classes: int | None) -> Tensor | None:
    """Return labels ``index % num_classes``, (num,) int64; None if unconditional."""
    return None if num_classes is None else torch.arange(num) % num_classes


def device_of(net: Backbone) -> torch.device:
    """Return the device of the network's weights; the CPU if it has none."""
    weight = next(cast(nn.Module, net).parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


@torch.inference_mode()
def generate(
    net: Backbone,
    method: Method,
    solver: Solver,
    noise: Tensor,
    labels: Tensor | None,
    batch_size: int,
    *,
    cfg_scale: float = 1.0,
    cfg_channels: int | None = None,
    seed: int = 0,
    observe: Callable[[NetworkCall], None] | None = None,
) -> Tensor:
    """Sample with a schedule or another method.

    Args:
        net: The network, in eval mode, on the device to use.
        method: How the network is called, such as an exit schedule.
        solver: Integrates the reverse process.
        noise: Starting noise, (N, C, H, W).
        labels: Class labels, (N,), or None for an unconditional model.
        batch_size: Images sampled at once; changes the result only by float rounding.
        cfg_scale: Scale of classifier-free guidance; 1 is off.
        cfg_channels: Number of guided channels; None guides all.
        seed: Seed of the noise that a stochastic solver adds.
        observe: Gets the method's run of every batch when it has ended.

    Returns:
        Samples, (N, C, H, W) float32 on the CPU, in the range of the data.

    Raises:
        ConfigError: If a schedule is written for the clock of another process.
    """
    plain = method.method if isinstance(method, LoadedMethod) else method
    if isinstance(plain, ExitSchedule):
        check_clock(plain, "flow" if solver.process.kind == "flow" else "ddpm", "The schedule")
    device = device_of(net)
    samples = []
    for start in range(0, len(noise), batch_size):
        rows = slice(start, start + batch_size)
        batch_labels = None if labels is None else labels[rows].to(device)
        denoiser = GuidedDenoiser(
            net, method, solver, batch_labels, cfg_scale=cfg_scale, cfg_channels=cfg_channels
        )
        batch = noise[rows].to(device)
        step_noise = SeededStepNoise(seed, start, batch)
        samples.append(solver.sample(denoiser, batch, step_noise).float().cpu())
        if observe is not None:
            observe(denoiser.call)
    return torch.cat(samples) if samples else noise.float()


class SeededStepNoise:
    """Step noise of a stochastic solver, with one generator per image.

    Args:
        seed: Evaluation seed.
        first: Index of the first image in the batch.
        batch: The batch, for its shape, dtype and device.
    """

    def __init__(self, seed: int, first: int, batch: Tensor) -> None:
        self._like = batch
        self._keys = [[seed, first + row, 1] for row in range(len(batch))]
        self._generators: list[np.random.Generator] = []

    def __call__(self) -> Tensor:
        """Draw standard normal noise for the next step, (N, C, H, W)."""
        if not self._generators:  # NOTE: deterministic solvers never get here
            self._generators = [np.random.default_rng(key) for key in self._keys]
        shape = tuple(self._like.shape[1:])
        noise = [rng.standard_normal(shape, dtype=np.float32) for rng in self._generators]
        return torch.from_numpy(np.stack(noise)).to(self._like)
