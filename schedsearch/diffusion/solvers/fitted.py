"""A solver whose coefficients were fitted to the states of a longer run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.protocols import Denoiser, StepNoise, Wants
from schedsearch.protocols import NoiseProcess as AnyProcess

Output = Literal["noise", "data", "velocity"]
"""What a step combines: predictions of noise, of data (DPM-Solver++), or of the velocity."""

Coefficients = tuple[float, float, float]
"""Factors of the state, the newest output and the output before it."""


class FittedSolver(FixedTimesSolver):
    """Multistep solver of order 2 with given coefficients.

    A step is ``x = a x + b m + c m'``, with the newest output m and the one before it, m'.
    See :func:`schedsearch.diffusion.solvers.fit.fit_steps` for where a, b and c come from.

    Args:
        process: Forward process.
        times: Clock times of the network calls, from noise to data.
        coefficients: (a, b, c) of every step; c of the first step is 0.
        output: What m is.
    """

    def __init__(
        self,
        process: NoiseProcess,
        times: Sequence[float],
        coefficients: Sequence[Coefficients],
        output: Output = "noise",
    ) -> None:
        super().__init__(process, times)
        self.wants = wanted_by_fits(process)
        self.coefficients = tuple(coefficients)
        self.output = output
        self._scales = scales_at(process, self.times)

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise, or the velocity of flow matching.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Not used.
        """
        x, earlier = noise, torch.zeros_like(noise)
        for t, (a, b, c), scales in zip(self.times, self.coefficients, self._scales, strict=True):
            output = output_of(denoiser(x, t), x, scales, self.output, self.wants)
            x, earlier = a * x + b * output + c * earlier, output
            yield x


def scales_at(process: AnyProcess, times: Sequence[float]) -> list[tuple[float, float]]:
    """Return (alpha, sigma) at clock times."""
    alphas, sigmas = process.scales(torch.tensor(times, dtype=torch.float64))
    return list(zip(alphas.tolist(), sigmas.tolist(), strict=True))


def outputs_of(process: AnyProcess) -> tuple[Output, ...]:
    """Return what steps of a process may combine.

    In flow matching a prediction of the noise says nothing at pure noise.
    """
    return ("velocity", "data") if process.kind == "flow" else ("noise", "data")


def wanted_by_fits(process: AnyProcess) -> Wants:
    """Return what the denoiser of fitted steps predicts."""
    return "velocity" if process.kind == "flow" else "eps"


def output_of(
    predicted: Tensor, x: Tensor, scales: tuple[float, float], output: Output, wants: Wants
) -> Tensor:
    """Turn a denoiser's prediction into what a step combines.

    Args:
        predicted: Noise or velocity of ``x``, (N, C, H, W).
        x: The state, (N, C, H, W).
        scales: (alpha, sigma) at its time.
        output: What is wanted.
        wants: What ``predicted`` is.
    """
    alpha, sigma = scales
    if output != "data":
        return predicted
    return x - sigma * predicted if wants == "velocity" else (x - sigma * predicted) / alpha
