"""Multistep DPM-Solver: equations, diffusers and its third order, orders of convergence."""

import itertools
import math
from typing import Any

import pytest
import torch
from gaussian_data import bent_denoiser, flow_error, gaussian_denoiser, make_noise, observed_order
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.diffusion.solvers.times import Spacing, log_snr_times
from schedsearch.protocols import Solver
from schedsearch.settings import SolverSettings

LINEAR, VP = DDPMProcess(), VPProcess()
ALGORITHMS = ("dpmsolver++", "dpmsolver")


def build(process: NoiseProcess, num_steps: int, **options: Any) -> Solver:
    settings = SolverSettings(name="dpm_solver", num_steps=num_steps, **options)
    return build_solver(settings, process)


def plain_multistep(
    process: NoiseProcess, times: tuple[float, ...], end: float, order: int, algorithm: str
) -> Tensor:
    """Fits a polynomial to the last predictions and integrates it numerically, in lambda.

    DPM-Solver, Eq. 3.4; DPM-Solver++, Prop. 4.1. Order 2 is the midpoint form instead:
    Algorithm 2 takes the line's value in the middle of the step for all of it.
    """
    grid = torch.tensor([*times, end], dtype=torch.float64)
    alphas, sigmas = process.scales(grid)
    lam = torch.log(alphas) - torch.log(sigmas)
    x, predictions = make_noise(), []
    for i, t in enumerate(times):
        eps = bent_denoiser(x, t)
        in_data = algorithm == "dpmsolver++"
        predictions.append((x - sigmas[i] * eps) / alphas[i] if in_data else eps)
        used = min(order, i + 1)
        if len(times) < 15:
            used = min(used, len(times) - i)
        # Gauss-Legendre integrates the polynomial times exp(+-lambda) to machine precision.
        nodes, weights = np_legendre(20)
        at = lam[i] + (lam[i + 1] - lam[i]) * (nodes + 1) / 2
        weights = weights * (lam[i + 1] - lam[i]) / 2
        at_value = (lam[i] + lam[i + 1]).repeat(20) / 2 if used == 2 else at
        values = torch.zeros(20, *x.shape, dtype=torch.float64)
        for j in range(used):  # Lagrange
            basis = torch.ones(20, dtype=torch.float64)
            for k in range(used):
                if k != j:
                    basis = basis * (at_value - lam[i - k]) / (lam[i - j] - lam[i - k])
            values += basis.view(-1, 1, 1, 1, 1) * predictions[i - j]
        if in_data:
            kernel = sigmas[i + 1] * torch.exp(at) * weights
            x = sigmas[i + 1] / sigmas[i] * x + torch.einsum("q,q...->...", kernel, values)
        else:
            kernel = alphas[i + 1] * torch.exp(-at) * weights
            x = alphas[i + 1] / alphas[i] * x - torch.einsum("q,q...->...", kernel, values)
    return x


def np_legendre(degree: int) -> tuple[Tensor, Tensor]:
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(degree)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("num_steps", [1, 2, 9, 16])
def test_equals_the_integral(algorithm: str, order: int, num_steps: int) -> None:
    solver = build(VP, num_steps, order=order, algorithm=algorithm)
    expected = plain_multistep(VP, solver.times, 0.1, order, algorithm)
    # diffusers casts the state to float32, which the third order of our own does not.
    tolerance = 1e-9 if order == 3 else 1e-4
    torch.testing.assert_close(
        solver.sample(bent_denoiser, make_noise()), expected, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_third_order_with_uneven_steps_in_the_noise(spacing: Spacing) -> None:
    # Ends at timestep 0, as diffusers' sigma_min.
    solver = build(LINEAR, 30, order=3, algorithm="dpmsolver", spacing=spacing)
    expected = plain_multistep(LINEAR, solver.times, 0.0, 3, "dpmsolver")
    torch.testing.assert_close(
        solver.sample(bent_denoiser, make_noise()), expected, rtol=1e-8, atol=1e-8
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # inside diffusers
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("num_steps", [10, 20, 25])
@pytest.mark.parametrize("order", [1, 2])
def test_equals_diffusers(spacing: Spacing, num_steps: int, order: int) -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(timestep_spacing=spacing, solver_order=order)
    scheduler.set_timesteps(num_steps)
    x = make_noise(dtype=torch.float32)
    for t in scheduler.timesteps:
        x = scheduler.step(bent_denoiser(x, float(t)), t, x).prev_sample
    solver = build(LINEAR, num_steps, spacing=spacing, order=order)
    assert solver.times == tuple(scheduler.timesteps.tolist())
    # diffusers' float32 table costs it some digits next to the data.
    samples = solver.sample(bent_denoiser, make_noise(dtype=torch.float32))
    torch.testing.assert_close(samples, x, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:__array__ implementation")
def test_in_the_noise_equals_diffusers() -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver", final_sigmas_type="sigma_min"
    )
    scheduler.set_timesteps(20)
    x = make_noise(dtype=torch.float32)
    for t in scheduler.timesteps:
        x = scheduler.step(bent_denoiser(x, float(t)), t, x).prev_sample
    solver = build(LINEAR, 20, algorithm="dpmsolver")
    samples = solver.sample(bent_denoiser, make_noise(dtype=torch.float32))
    torch.testing.assert_close(samples, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("order", "above", "below"), [(1, 0.9, 1.1), (2, 1.8, 2.2), (3, 2.8, 9)])
def test_order_of_convergence(algorithm: str, order: int, above: float, below: float) -> None:
    steps = (20, 40, 80, 160)
    errors = [flow_error(build(VP, n, order=order, algorithm=algorithm), 0.1) for n in steps]
    assert above < observed_order(steps, errors) < below


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:__array__ implementation")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_third_order_of_diffusers_is_second_order(algorithm: str) -> None:
    """Why order 3 is our own: half of the second derivative is missing there."""
    from diffusers import DPMSolverMultistepScheduler

    errors, ours = [], []
    steps = (40, 80, 160)
    for num_steps in steps:
        solver = build(VP, num_steps, order=3, algorithm=algorithm)
        scheduler = DPMSolverMultistepScheduler(
            solver_order=3, algorithm_type=algorithm, final_sigmas_type="sigma_min"
        )
        scheduler.set_timesteps(num_steps)
        grid = torch.tensor([*solver.times, 0.1], dtype=torch.float64)
        scheduler.sigmas = torch.expm1(-VP.log_alpha_bars(grid)).sqrt()
        scheduler.set_begin_index(0)

        class Theirs:
            process, times, wants_variance = VP, solver.times, False

            def sample(self, denoiser: Any, noise: Tensor, step_noise: object = None) -> Tensor:
                x = noise
                for t in self.times:
                    x = scheduler.step(denoiser(x, t), t, x).prev_sample  # noqa: B023
                return x

        errors.append(flow_error(Theirs(), 0.1))  # type: ignore[arg-type]
        ours.append(flow_error(solver, 0.1))
    assert 1.8 < observed_order(steps, errors) < 2.3
    assert ours[-1] < 0.05 * errors[-1]


def test_timesteps_end_at_the_data() -> None:
    # The last step goes from the last timestep to no noise at all, with order 1.
    for order in (1, 2, 3):
        solver = build(LINEAR, 20, order=order)
        last: list[Tensor] = []

        def denoiser(x: Tensor, t: float, last: list[Tensor] = last) -> Tensor:
            eps = gaussian_denoiser(LINEAR)(x, t)
            bar = LINEAR.alpha_bar(t)
            last.append((x - math.sqrt(1 - bar) * eps) / math.sqrt(bar))
            return eps

        samples = solver.sample(denoiser, make_noise())
        torch.testing.assert_close(samples, last[-1], rtol=1e-6, atol=1e-6)


def test_continuous_times_are_uniform_in_log_snr() -> None:
    times = build(VP, 25).times
    assert times == log_snr_times(VP, 25, 0.1)[:-1]
    assert times[0] == 1000.0
    gaps = [VP.half_log_snr(b) - VP.half_log_snr(a) for a, b in itertools.pairwise(times)]
    assert max(gaps) - min(gaps) < 1e-9
    assert build(VP, 25, end_time=1.0).times[-1] > times[-1]


def test_a_cosine_grid_leaves_the_pure_noise_out() -> None:
    cosine = DDPMProcess("cosine")
    assert cosine.half_log_snr(999) < -9
    start = log_snr_times(cosine, 10, 0.0)[0]
    assert cosine.half_log_snr(start) == pytest.approx(-5.1)
    assert 990 < start < 998
    assert log_snr_times(LINEAR, 10, 0.0)[0] == 999.0
