import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import DDIM, SOLVERS, DPMSolver, build_solver
from schedsearch.diffusion.solvers.times import Spacing, ddim_times, dpm_solver_times
from schedsearch.exceptions import ConfigError
from schedsearch.settings import SolverSettings

PROCESS = DDPMProcess()
SPACINGS: tuple[Spacing, ...] = ("linspace", "leading", "trailing")
MEAN, STD = 0.4, 0.3


def gaussian_denoiser(x: Tensor, t: float) -> Tensor:
    """The exact noise prediction when every pixel of the data is N(MEAN, STD ** 2)."""
    ab = PROCESS.alpha_bar(int(t))
    return math.sqrt(1 - ab) * (x - math.sqrt(ab) * MEAN) / (ab * STD**2 + 1 - ab)


def bent_denoiser(x: Tensor, t: float) -> Tensor:
    """Some smooth, nonlinear function of x and t."""
    return torch.tanh(x * (0.5 + t / 1000)) + 0.1 * math.sin(t / 100)


def make_noise(n: int = 4) -> Tensor:
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def plain_ddim(denoiser: object, x: Tensor, times: tuple[float, ...]) -> Tensor:
    """Song et al. 2021, Eq. 12 with eta = 0, to the next timestep of the list, in float64."""
    x = x.double()
    bars = [PROCESS.alpha_bar(int(t)) for t in times] + [1.0]
    for t, ab, ab_next in zip(times, bars[:-1], bars[1:], strict=True):
        eps = denoiser(x, t)  # type: ignore[operator]
        x0 = (x - math.sqrt(1 - ab) * eps) / math.sqrt(ab)
        x = math.sqrt(ab_next) * x0 + math.sqrt(1 - ab_next) * eps
    return x


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 7, 20, 250])
def test_ddim_equals_the_equation(spacing: Spacing, num_steps: int) -> None:
    solver = DDIM(PROCESS, num_steps, spacing)
    expected = plain_ddim(bent_denoiser, make_noise(), solver.times)
    actual = solver.sample(bent_denoiser, make_noise())
    scale = float(expected.abs().max())
    assert (actual - expected).abs().max() < 1e-5 * scale


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("num_steps", [10, 50])
def test_ddim_equals_diffusers_where_its_update_is_the_same(
    spacing: Spacing, num_steps: int
) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=True)
    scheduler.set_timesteps(num_steps)
    x = make_noise()
    for t in scheduler.timesteps:
        x = scheduler.step(bent_denoiser(x, float(t)), t, x).prev_sample
    solver = DDIM(PROCESS, num_steps, spacing)
    assert solver.times == tuple(scheduler.timesteps.tolist())
    # diffusers' float32 table costs it some digits next to the data.
    torch.testing.assert_close(solver.sample(bent_denoiser, make_noise()), x, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # inside diffusers
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [10, 20, 25])
def test_dpm_solver_equals_diffusers(spacing: Spacing, num_steps: int) -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(num_steps)
    x = make_noise()
    for t in scheduler.timesteps:
        x = scheduler.step(bent_denoiser(x, float(t)), t, x).prev_sample
    solver = DPMSolver(PROCESS, num_steps, spacing)
    assert solver.times == tuple(scheduler.timesteps.tolist())
    torch.testing.assert_close(solver.sample(bent_denoiser, make_noise()), x, rtol=1e-3, atol=1e-3)


def gaussian_error(solver: DPMSolver) -> float:
    """Largest distance from the exact solution of the probability-flow ODE."""
    ab = PROCESS.alpha_bar(int(solver.times[0]))
    noise = make_noise()
    whitened = (noise - math.sqrt(ab) * MEAN) / math.sqrt(ab * STD**2 + 1 - ab)
    exact = MEAN + STD * whitened
    return float((solver.sample(gaussian_denoiser, noise) - exact).abs().max())


def observed_order(errors: dict[int, float]) -> float:
    steps = sorted(errors)
    slope, _ = np.polyfit(np.log(steps), np.log([errors[n] for n in steps]), 1)
    return -float(slope)


def test_order_of_convergence() -> None:
    steps = (20, 40, 80, 160)
    ddim = {n: gaussian_error(DDIM(PROCESS, n)) for n in steps}
    dpm = {n: gaussian_error(DPMSolver(PROCESS, n)) for n in steps}
    assert 0.8 < observed_order(ddim) < 1.3
    assert 1.6 < observed_order(dpm) < 2.5
    assert dpm[80] < 0.2 * ddim[80]
    assert dpm[160] < 2e-3


def test_ddim_times_of_dit() -> None:
    assert ddim_times("linspace", 5) == (999, 749, 500, 250, 0)
    assert ddim_times("leading", 4) == (750, 500, 250, 0)
    assert ddim_times("trailing", 4) == (999, 749, 499, 249)
    assert ddim_times("linspace", 1) == (999,)
    assert ddim_times("linspace", 1000) == tuple(range(999, -1, -1))


def test_dpm_solver_times_leave_the_last_point_out() -> None:
    assert dpm_solver_times("linspace", 4) == (999, 749, 500, 250)
    assert len(dpm_solver_times("linspace", 20)) == 20
    assert dpm_solver_times("linspace", 20)[-1] == 50


@pytest.mark.parametrize("name", sorted(SOLVERS))
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 15, 100, 333, 999])
def test_contract_of_every_solver(name: str, spacing: Spacing, num_steps: int) -> None:
    settings = SolverSettings(name=name, num_steps=num_steps, spacing=spacing)  # type: ignore[arg-type]
    solver = build_solver(settings, PROCESS)
    calls: list[float] = []

    def denoiser(x: Tensor, t: float) -> Tensor:
        assert not torch.is_grad_enabled()
        calls.append(t)
        return torch.zeros_like(x)

    noise = make_noise(1)
    samples = solver.sample(denoiser, noise)
    assert tuple(calls) == solver.times  # known without sampling
    assert len(calls) == num_steps == solver.num_steps
    assert all(isinstance(t, float) and 0 <= t <= 999 for t in calls)
    assert all(a > b for a, b in itertools.pairwise(calls))
    assert samples.shape == noise.shape
    assert bool(torch.isfinite(samples).all())


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_solver_can_be_used_twice(name: str) -> None:
    solver = build_solver(SolverSettings(name=name, num_steps=6), PROCESS)  # type: ignore[arg-type]
    first = solver.sample(bent_denoiser, make_noise())
    assert torch.equal(first, solver.sample(bent_denoiser, make_noise()))


def test_nothing_is_clipped() -> None:
    samples = DDIM(PROCESS, 10).sample(lambda x, t: torch.zeros_like(x), make_noise())
    assert samples.abs().max() > 10


def test_more_steps_than_timesteps_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"twice.*fewer steps"):
        build_solver(SolverSettings(name="dpm_solver", num_steps=1000), PROCESS)
    assert len(build_solver(SolverSettings(name="ddim", num_steps=1000), PROCESS).times) == 1000
