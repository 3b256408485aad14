"""Euler-Maruyama equals U-ViT's equations and samples the data."""

import itertools
import math

import pytest
import torch
from gaussian_data import MEAN, STD, Tape, bent_denoiser, make_noise, moments
from torch import Tensor

from schedsearch.diffusion.process import VPProcess
from schedsearch.diffusion.solvers import EulerMaruyama

VP = VPProcess()


def plain(x: Tensor, num_steps: int, end: float, draw: Tape) -> Tensor:
    """dx = (-beta x / 2 - beta score) ds + sqrt(beta) dw, backwards, in s in [0, 1]."""
    grid = [0.0] + [end + (1 - end) * i / (num_steps - 1) for i in range(num_steps)]
    for after, s in reversed(list(itertools.pairwise(grid))):
        beta = 0.1 + s * (20 - 0.1)
        variance = 1 - math.exp(-(0.1 * s + (20 - 0.1) * s**2 / 2))
        score = -bent_denoiser(x, 1000 * s) / math.sqrt(variance)
        x = x + (-0.5 * beta * x - beta * score) * (after - s)
        if after != 0:
            x = x + math.sqrt(beta * (s - after)) * draw()
    return x


@pytest.mark.parametrize(("num_steps", "end"), [(2, 1e-3), (50, 1e-3), (50, 0.02)])
def test_equals_the_equation(num_steps: int, end: float) -> None:
    noise = make_noise()
    solver = EulerMaruyama(VP, num_steps, 1000 * end)
    torch.testing.assert_close(
        solver.sample(bent_denoiser, noise, Tape(noise)),
        plain(noise, num_steps, end, Tape(noise)),
        rtol=1e-9,
        atol=1e-9,
    )


def test_times_of_u_vit() -> None:
    times = EulerMaruyama(VP, 1000).times
    assert (times[0], times[-1]) == (1000.0, 1.0)
    assert len(times) == 1000
    assert times[1] == pytest.approx(999.0)
    assert EulerMaruyama(VP, 1).times == (1000.0,)


def test_samples_the_data() -> None:
    spreads = []
    for num_steps in (50, 250, 1000):
        mean, std = moments(EulerMaruyama(VP, num_steps))
        assert abs(mean - MEAN) < 0.3 / num_steps
        spreads.append(abs(std / STD - 1))
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 2e-4


def test_the_score_sde_scheduler_of_diffusers_is_another_solver() -> None:
    # Its steps are 1 / N, whatever the distance to its next time is, and it has no last one.
    from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

    scheduler = ScoreSdeVpScheduler()
    scheduler.set_timesteps(50)
    x = make_noise()
    for t in scheduler.timesteps:
        # Rows without fresh noise show the drift alone.
        _, x = scheduler.step_pred(bent_denoiser(x, 1000 * float(t)), x, t)
    solver = EulerMaruyama(VP, 50)
    torch.testing.assert_close(
        torch.tensor(solver.times), 1000 * scheduler.timesteps, rtol=1e-5, atol=1e-3
    )
    ours = solver.sample(bent_denoiser, make_noise(), lambda: torch.zeros_like(x))
    assert float((ours - x).abs().max() / ours.abs().max()) > 0.01
