"""Least squares for the coefficients of a few-step solver."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.diffusion.solvers.fitted import (
    Coefficients,
    Output,
    output_of,
    outputs_of,
    scales_at,
    wanted_by_fits,
)
from schedsearch.protocols import Denoiser, NoiseProcess, Solver, Wants

RIDGE = 1e-8
"""Pull towards DDIM's coefficients, as a share of a term's mean square.

It settles only what the data leave open: state and outputs may be almost collinear.
"""

DATA_SCALES = (1.0, 0.0)
"""(alpha, sigma) of the data, where the last step ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBatch:
    """Starting noise, and a way to start a run on it."""

    noise: Tensor
    """Standard normal, (N, C, H, W)."""
    start: Callable[[Wants], Denoiser]
    """Starts a run at full depth, with a denoiser of noise or of velocities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedSteps:
    """Times and coefficients of a few-step solver."""

    output: Output
    """What a step combines."""
    times: tuple[float, ...]
    coefficients: tuple[Coefficients, ...]
    distance: float
    """Root mean square distance of its samples to those of the full run."""


@torch.no_grad()
def fit_steps(solver: Solver, batches: Sequence[CalibrationBatch], num_steps: int) -> FittedSteps:
    """Fit a solver with fewer steps to the states of the full run.

    The steps are fitted one after the other, each on the states that the fitted steps before it
    reached. So a step also corrects their errors. Predictions of the noise (or velocity) and of
    the data are both tried; the samples nearer to the full run's decide.

    Args:
        solver: The full run: a deterministic solver.
        batches: Calibration noise.
        num_steps: Steps of the fitted solver, at most those of ``solver``.

    Raises:
        ValueError: If ``solver`` is stochastic or takes fewer steps, or a state is not finite.
    """
    calls = _meeting_calls(solver, num_steps)
    times = tuple(solver.times[call] for call in calls)
    targets = [_states(solver, batch, [*calls[1:], len(solver.times)]) for batch in batches]
    process = solver.process
    fits = [_fit(process, batches, targets, times, output) for output in outputs_of(process)]
    return min(fits, key=lambda fit: fit.distance)


def _fit(
    process: NoiseProcess,
    batches: Sequence[CalibrationBatch],
    targets: Sequence[Sequence[Tensor]],
    times: tuple[float, ...],
    output: Output,
) -> FittedSteps:
    """Fit the steps to ``targets``, the full run's state after every step, by batch."""
    scales, wants = scales_at(process, times), wanted_by_fits(process)
    denoisers = [batch.start(wants) for batch in batches]
    states = [batch.noise for batch in batches]
    outputs = [torch.zeros_like(x) for x in states]
    coefficients: list[Coefficients] = []
    for step, (here, after) in enumerate(itertools.pairwise([*scales, DATA_SCALES])):
        # Call the network.
        earlier = outputs
        outputs = [
            output_of(denoiser(x, times[step]), x, here, output, wants)
            for denoiser, x in zip(denoisers, states, strict=True)
        ]
        # Fit the step.
        terms = list(zip(states, outputs, earlier, strict=True))
        wanted = [target[step] for target in targets]
        found = _solved(terms, wanted, ddim_coefficients(here, after, output), first=step == 0)
        coefficients.append(found)
        # Take the step.
        a, b, c = found
        states = [a * x + b * m + c * m_before for x, m, m_before in terms]
    gaps = torch.cat([(x - t[-1]).flatten() for x, t in zip(states, targets, strict=True)])
    return FittedSteps(
        output=output,
        times=times,
        coefficients=tuple(coefficients),
        distance=float(gaps.double().square().mean().sqrt()),
    )


def meeting_calls(num_full: int, num_steps: int) -> tuple[int, ...]:
    """Indices of the full run's calls that the few steps keep, evenly spaced.

    Raises:
        ValueError: If the full run has fewer calls.
    """
    if not 1 <= num_steps <= num_full:
        raise ValueError(f"Fitted steps are 1 to {num_full} of the full run's, got {num_steps}.")
    return tuple((2 * step * num_full + num_steps) // (2 * num_steps) for step in range(num_steps))


def _meeting_calls(solver: Solver, num_steps: int) -> tuple[int, ...]:
    """The same for calls that start a step; with Heun every second one."""
    stride = solver.calls_per_step
    found = meeting_calls(len(solver.times) // stride, num_steps)
    return tuple(stride * call for call in found)


def ddim_coefficients(
    here: tuple[float, float], after: tuple[float, float], output: Output
) -> Coefficients:
    """Coefficients of DDIM's step (Song et al. 2021, Eq. 12) between two (alpha, sigma)."""
    (alpha, sigma), (alpha_after, sigma_after) = here, after
    if output == "velocity":  # alpha = 1 - sigma: Euler's step
        return 1.0, sigma_after - sigma, 0.0
    if output == "noise":
        scale = alpha_after / alpha
        return scale, sigma_after - scale * sigma, 0.0
    scale = sigma_after / sigma
    return scale, alpha_after - scale * alpha, 0.0


def _states(solver: Solver, batch: CalibrationBatch, ends: Sequence[int]) -> list[Tensor]:
    """States of the full run after ``ends`` calls."""
    run = solver.trajectory(batch.start(solver.wants), batch.noise)
    return [x for num_calls, x in enumerate(run, start=1) if num_calls in ends]


def _solved(
    terms: Sequence[tuple[Tensor, Tensor, Tensor]],
    wanted: Sequence[Tensor],
    prior: Coefficients,
    *,
    first: bool,
) -> Coefficients:
    """Solve one step's least squares in float64, as a correction of ``prior``."""
    gram = torch.zeros(3, 3, dtype=torch.float64)
    moment = torch.zeros(3, dtype=torch.float64)
    at_start = torch.tensor(prior, dtype=torch.float64)
    for parts, target in zip(terms, wanted, strict=True):
        columns = torch.stack([part.double().flatten().cpu() for part in parts], dim=1)
        gram += columns.T @ columns
        moment += columns.T @ (target.double().flatten().cpu() - columns @ at_start)
    if not (gram.isfinite().all() and moment.isfinite().all()):
        raise ValueError("The states of the calibration run are not finite.")
    # Solve for terms of unit size; what is always zero keeps its coefficient.
    size = gram.diagonal().sqrt()
    size = torch.where(size > 0, size, 1.0)
    scaled = gram / torch.outer(size, size) + RIDGE * torch.eye(3, dtype=torch.float64)
    correction = torch.linalg.solve(scaled, moment / size) / size
    a, b, c = (at_start + correction).tolist()
    return a, b, 0.0 if first else c
