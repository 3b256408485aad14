"""Measures the error table: weighted loss per interval of diffusion time and exit depth."""

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
from schedsearch.schedules.exit_schedule import CLOCK_END

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone, NoiseProcess, TrainingData
    from schedsearch.schedules.space import SearchSpace


MAX_SNR = 5.0
"""Largest weight of an error of x0 (gamma; Hang et al. 2023, Sec. 3.4)."""


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
    """Loss of a network at every interval and exit depth of a space.

    The loss is alpha_t times the squared error of the noise, see :func:`loss_weights`. All
    depths of an interval see the same images, times and noise, so that differences along the
    depth are paired. Times are stratified over the interval. No source of images keeps some
    back, so the images are those that the network was trained on; that shifts all losses of a
    network that knows them by heart, but hardly their differences.

    Args:
        net: The network, in eval mode; labels are given to it, never "no class".
        data: Images and labels, drawn with replacement.
        process: Adds the noise and says what is predicted.
        space: Its intervals and depths are the rows and columns.
        num_images: Images per interval.
        batch_size: Images at once; another number draws others.
        seed: Of images, times and noise.
        exits: How the network was tuned; kept in the table.
        num_steps: Steps of that fine-tune; kept in the table.

    Raises:
        TrialError: If a loss is not finite.
        ConfigError: If the network has classes and the data no labels.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    depths = tuple(range(space.min_depth, space.max_depth + 1))
    losses, errors = [], []
    for interval in range(space.num_intervals):
        times = stratified_times(process, interval, space.num_intervals, num_images, generator)
        # (num_images, num_depths) float64
        samples = torch.cat(
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
    """What the squared error of the prediction is multiplied by, (N,).

    ``alpha_t |eps - eps_theta|^2`` whatever the network predicts, with ``x_t = alpha_t x_0 +
    sigma_t eps``. A short fine-tune repairs errors near the noise more easily than errors near
    the data, so the plain squared error of the noise (L_simple; DDPM, Eq. 14) counts the first
    too much. The factor alpha_t is our choice: with it sums rank one model's schedules far better
    than plain ones, another's as well (benchmarks/table_ranking.py). For a network that predicts
    x0 the error of the noise is infinite at the data, and its factor SNR is cut at 5 (Hang et al.
    2023, Eq. 8).
    """
    alpha, sigma = process.scales(t)
    if process.prediction == "eps":
        return alpha
    if process.prediction == "v":  # eps = alpha v + sigma x_t
        return alpha**3
    return alpha * ((alpha / sigma) ** 2).clamp(max=MAX_SNR)  # eps = (x_t - alpha x_0) / sigma


def stratified_times(
    process: NoiseProcess,
    interval: int,
    num_intervals: int,
    num: int,
    generator: torch.Generator,
) -> Tensor:
    """Times in one interval of the clock, one drawn from each of ``num`` equal parts, (num,).

    They have the dtype of the process's own training times: a discrete process gets timesteps.
    """
    width = CLOCK_END / num_intervals
    low, high = interval * width, (interval + 1) * width
    like = process.draw_times(0, generator)
    if not like.is_floating_point():  # the whole numbers in [low, high), cut down from floats
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
    """Losses of one batch, (N, num_depths) float64 on the CPU."""
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
