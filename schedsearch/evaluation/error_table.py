"""Measures the error table: weighted loss per diffusion interval and exit depth."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from schedsearch.backbones.every_exit import predict_at_exits
from schedsearch.diffusion.losses import mse
from schedsearch.evaluation.sampling import device_of
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.edges import Edges, equal_edges

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone, NoiseProcess, TrainingData
    from schedsearch.schedules.space import SearchSpace


MAX_SNR = 5.0
"""Largest loss weight for x0 predictions (gamma; Hang et al. 2023, Sec. 3.4)."""


@torch.inference_mode()
def measure_error_table(
    net: Backbone,
    data: TrainingData,
    process: NoiseProcess,
    space: SearchSpace,
    *,
    num_images: int,
    batch_size: int,
    seed: int,
    exits: str,
    num_steps: int,
) -> ErrorTable:
    """Measure the loss of a network at every interval and exit depth of a space.

    The loss is alpha_t times the squared error of the noise, see :func:`loss_weights`. All
    depths of an interval share images, times and noise, so their differences are paired. Times
    are stratified over the interval. The images are training images. Memorised images lower all
    losses, but hardly change the differences.

    Args:
        net: The network, in eval mode. It gets the images' labels, never "no class".
        data: Images and labels, drawn with replacement.
        process: Forward process and prediction target.
        space: Its intervals and depths are the rows and columns.
        num_images: Images per interval.
        batch_size: Images at once; changing it changes the draws.
        seed: Seed of images, times and noise.
        exits: How the network was fine-tuned; stored in the table.
        num_steps: Steps of that fine-tune; stored in the table.

    Raises:
        TrialError: If a loss is not finite.
        ConfigError: If the network has classes and the data no labels.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    depths = tuple(range(space.min_depth, space.max_depth + 1))
    losses, errors = [], []
    for interval in range(space.num_intervals):
        # Measure all depths.
        times = stratified_times(
            process, interval, space.num_intervals, num_images, generator, space.edges
        )
        samples = torch.cat(  # (num_images, num_depths) float64
            [
                _losses(net, data, process, batch, depths, generator)
                for batch in torch.split(times, batch_size)
            ]
        )
        if not bool(torch.isfinite(samples).all()):
            raise TrialError(
                f"The validation loss in interval {interval} is not finite: the network or its "
                "shared fine-tune has diverged; lower recipe.lr or set recipe.grad_clip.",
                stage="error table",
            )
        # Average over images.
        differences = samples - samples[:, -1:]
        losses.append(tuple(samples.mean(0).tolist()))
        spread = differences.std(0, correction=min(1, num_images - 1))
        errors.append(tuple((spread / num_images**0.5).tolist()))
    return ErrorTable(
        depths=depths,
        losses=tuple(losses),
        standard_errors=tuple(errors),
        exits=exits,
        num_steps=num_steps,
        num_images=num_images,
        seed=seed,
        seconds=round(time.perf_counter() - started, 3),
    )


def loss_weights(process: NoiseProcess, t: Tensor) -> Tensor:
    """Return the weight of the squared prediction error, (N,).

    The weighted loss is ``alpha_t |eps - eps_theta|^2`` for every prediction target; alpha_t is
    that of the variance-preserving process with the same SNR. The factor alpha_t is our choice. A
    short fine-tune repairs errors near the noise more easily, so L_simple (DDPM, Eq. 14) weights
    them too much; see ``benchmarks/README.md``. The factor SNR of x0 predictions is infinite at
    the data, so it is clamped (Hang et al. 2023, Eq. 8).
    """
    alpha, sigma = process.scales(t)
    factor = alpha / torch.hypot(alpha, sigma) if process.kind == "flow" else alpha
    if process.prediction == "eps":
        return factor
    if process.prediction in ("v", "velocity"):  # eps = alpha v + (1 or sigma) x_t
        return factor * alpha**2
    return factor * ((alpha / sigma) ** 2).clamp(max=MAX_SNR)  # eps = (x_t - alpha x_0) / sigma


def stratified_times(
    process: NoiseProcess,
    interval: int,
    num_intervals: int,
    num: int,
    generator: torch.Generator,
    edges: Edges | None = None,
) -> Tensor:
    """Draw one time from each of ``num`` equal parts of an interval, (num,).

    The dtype is that of the process's training times, so a discrete process gets timesteps.
    """
    ends = equal_edges(num_intervals) if edges is None else edges
    low, high = ends[interval], ends[interval + 1]
    like = process.draw_times(0, generator)
    if not like.is_floating_point():  # NOTE: ceilings, so that truncation stays in [low, high)
        low, high = float(-(-low // 1)), float(-(-high // 1))
    parts = torch.arange(num, dtype=torch.float64)
    parts += torch.rand(num, dtype=torch.float64, generator=generator)
    return (low + (high - low) / num * parts).to(like.dtype)


def _losses(
    net: Backbone,
    data: TrainingData,
    process: NoiseProcess,
    times: Tensor,
    depths: tuple[int, ...],
    generator: torch.Generator,
) -> Tensor:
    """Compute the losses of one batch, (N, num_depths) float64 on the CPU."""
    device = device_of(net)
    x0, labels = data.batch(len(times), generator)
    noise = torch.randn(x0.shape, generator=generator)
    if net.num_classes is None:
        labels = None
    elif labels is None:
        raise ConfigError(
            f"The backbone has {net.num_classes} classes, but the data has no labels; put the "
            "images into one folder per class, or use an unconditional backbone."
        )
    else:
        labels = labels.to(device)
    x0, noise, times = x0.to(device), noise.to(device), times.to(device)
    x_t, target = process.q_sample(x0, times, noise), process.target(x0, times, noise)
    outputs = predict_at_exits(net, x_t, process.network_time(times), labels, depths)
    errors = torch.stack([mse(out.float(), target) for out in outputs], dim=1).double()
    return (errors * loss_weights(process, times)[:, None]).cpu()
