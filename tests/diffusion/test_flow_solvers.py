"""Solvers of flow matching: against diffusers, against SiT's formulas, and on Gaussian data."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gaussian_data import (
    MEAN,
    STD,
    Tape,
    bent_denoiser,
    best_denoiser,
    flow_error,
    gaussian_velocity,
    make_noise,
    moments,
    observed_order,
    scales_at,
)
from torch import Tensor, nn

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.diffusion.solvers.fit import CalibrationBatch, fit_steps
from schedsearch.diffusion.solvers.fitted import FittedSolver
from schedsearch.evaluation.sampling import generate
from schedsearch.exceptions import ConfigError
from schedsearch.methods.fitted_steps import FittedStepsNumbers
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import NetworkTime, Prediction, SolverSettings

FLOW = FlowProcess("sigma1000")


def build(
    name: str, num_steps: int, process: FlowProcess = FLOW, **options: Any
) -> FixedTimesSolver:
    settings = SolverSettings(name=name, num_steps=num_steps, **options)  # type: ignore[arg-type]
    solver = build_solver(settings, process)
    assert isinstance(solver, FixedTimesSolver)
    return solver


def predictor(process: FlowProcess) -> Callable[[Tensor, float], Tensor]:
    """The best prediction of any kind, turned into a velocity as a denoiser does."""

    def velocity(x: Tensor, t: float) -> Tensor:
        alpha, sigma = scales_at(process, t)
        best = gaussian_velocity(process)(x, t)
        output = {"velocity": best, "x0": x - sigma * best, "eps": x + alpha * best}
        return process.velocity_from(output[process.prediction], x, t)

    return velocity


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("num_steps", [1, 7, 28])
def test_euler_is_that_of_diffusers(num_steps: int, shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[(num_steps - k) / num_steps for k in range(num_steps)])
    solver = build("flow_euler", num_steps, shift=shift)
    torch.testing.assert_close(torch.tensor(solver.times), scheduler.timesteps)
    noise = make_noise(3, torch.float32)
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(bent_denoiser(x, float(t)), t, x).prev_sample
    torch.testing.assert_close(solver.sample(bent_denoiser, noise), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_dpm_solver_is_that_of_diffusers(order: int, shift: float) -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        solver_order=order,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
    )
    scheduler.set_timesteps(10)
    solver = build("dpm_solver", 10, shift=shift, order=order)
    torch.testing.assert_close(torch.tensor(solver.times) / 1000, scheduler.sigmas[:-1])
    noise = make_noise(3, torch.float32)
    x = noise
    for now, t in zip(solver.times, scheduler.timesteps, strict=True):
        x = scheduler.step(bent_denoiser(x, now), t, x).prev_sample
    torch.testing.assert_close(solver.sample(bent_denoiser, noise), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("flow_euler", {}, 1),
        ("flow_euler", {"shift": 3.0}, 1),
        ("flow_heun", {}, 2),
        ("flow_heun", {"shift": 3.0}, 2),
        ("dpm_solver", {"order": 1}, 1),
        ("dpm_solver", {"order": 2}, 1.75),  # its first step, from 999, is long in logSNR
    ],
)
def test_orders_on_gaussian_data(name: str, options: dict[str, Any], order: float) -> None:
    steps = (160, 320, 640)  # with few steps errors of two signs cancel
    errors = [flow_error(build(name, n, **options), None) for n in steps]
    assert observed_order(steps, errors) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("name", ["flow_euler", "flow_heun", "sit_sde", "dpm_solver"])
def test_the_first_step_is_finite_and_called_at_the_noise(name: str) -> None:
    solver = build(name, 4)
    first = next(
        solver.trajectory(bent_denoiser, make_noise(2, torch.float32), Tape(make_noise(2)))
    )
    assert bool(torch.isfinite(first).all())
    assert solver.times[0] == (999.0 if name == "dpm_solver" else 1000.0)


def test_clock_times_of_the_calls() -> None:
    assert build("flow_euler", 5).times == (1000.0, 800.0, 600.0, 400.0, 200.0)
    assert build("flow_heun", 4).times == (1000.0, 500.0, 500.0, 0.0)
    data, eps = FlowProcess("sigma", "x0"), FlowProcess("sigma", "eps")
    assert build("flow_heun", 4, data).times == (1000.0, 500.0, 500.0, 250.0)
    assert build("flow_heun", 4, eps).times == (750.0, 500.0, 500.0, 0.0)
    assert build("flow_euler", 4, eps).times == (875.0, 750.0, 500.0, 250.0)
    assert build("flow_euler", 4, data).times == (1000.0, 750.0, 500.0, 250.0)
    assert build("flow_euler", 4, shift=3.0).times == pytest.approx((1000.0, 900.0, 750.0, 500.0))
    assert build("sit_sde", 4).times == pytest.approx((1000.0, 680.0, 360.0, 40.0))
    assert build("sit_sde", 250).times[-1] == pytest.approx(40.0)
    # The interval that starts at a time holds it, whatever was rounded on the way.
    visited = ExitSchedule(tuple(range(10))).visited(build("flow_euler", 20).times)
    assert visited == (9, 9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0)


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("flow_euler", "x0"),
        ("flow_heun", "x0"),
        ("dpm_solver", "x0"),
        ("flow_euler", "eps"),
        ("flow_heun", "eps"),
    ],
)
def test_networks_of_the_data_and_of_the_noise_give_the_samples_of_the_velocity(
    name: str, prediction: Prediction
) -> None:
    process = FlowProcess("sigma", prediction)
    ours = build(name, 50, process).sample(predictor(process), make_noise())
    theirs = build(name, 50).sample(predictor(FLOW), make_noise())
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_heun_keeps_its_order_with_networks_of_the_data_and_of_the_noise(
    prediction: Prediction,
) -> None:
    process, noise = FlowProcess("sigma", prediction), make_noise()
    exact = MEAN + STD * noise
    steps = (80, 160, 320)
    errors = [
        float((build("flow_heun", n, process).sample(predictor(process), noise) - exact).norm())
        for n in steps
    ]
    assert observed_order(steps, errors) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("name", ["flow_euler", "flow_heun", "sit_sde"])
@pytest.mark.parametrize("prediction", ["velocity", "x0", "eps"])
def test_small_errors_of_a_network_stay_small(name: str, prediction: Prediction) -> None:
    """A prediction of the data or of the noise is divided by a number near 0 at one end."""
    process, noise = FlowProcess("sigma", prediction), make_noise()

    def wrong(x: Tensor, t: float) -> Tensor:
        divisor = {"velocity": 1.0, "x0": t / 1000, "eps": 1 - t / 1000}[prediction]
        return predictor(process)(x, t) + 0.02 * torch.sin(7 * x) / divisor

    solver = build(name, 20, process)
    gap = solver.sample(wrong, noise, Tape(noise)) - solver.sample(
        predictor(process), noise, Tape(noise)
    )
    assert 0 < float(gap.abs().max()) < 0.1


@pytest.mark.parametrize("num_steps", [2, 10])
def test_the_sde_is_that_of_sit(num_steps: int) -> None:
    """In SiT's time, 0 at the noise: drift v + w score, w = 1 - t, last step 0.04, no noise."""
    noise, tape = make_noise(3), Tape(make_noise(3))

    def velocity(x: Tensor, t: float) -> Tensor:  # data minus noise
        return bent_denoiser(x, 1000 * (1 - t))

    grid = torch.linspace(0, 0.96, num_steps, dtype=torch.float64).tolist()
    x = noise
    for index, t in enumerate(grid):
        v = velocity(x, t)
        score = (t * v - x) / (1 - t)
        drift = v + (1 - t) * score
        if index == num_steps - 1:
            x = x + 0.04 * drift
            break
        step = grid[index + 1] - t
        x = x + step * drift + (2 * (1 - t) * step) ** 0.5 * tape()
    calls: list[float] = []

    def denoiser(x: Tensor, t: float) -> Tensor:  # noise minus data
        calls.append(t)
        return -bent_denoiser(x, t)

    found = build("sit_sde", num_steps).sample(denoiser, noise, Tape(noise))
    torch.testing.assert_close(found, x)
    assert len(calls) == num_steps


def test_the_sde_ends_at_the_data() -> None:
    for end_time, gap in ((40.0, 0.01), (1.0, 0.001)):
        mean, std = moments(build("sit_sde", 250, end_time=end_time))
        assert mean == pytest.approx(MEAN)
        assert std == pytest.approx(STD, abs=gap)


class Wrapped(nn.Module):
    """One velocity, noise minus data on the clock, behind the conventions of three codes."""

    num_exit_blocks, in_shape, num_classes = 3, (1, 4, 4), None

    def __init__(self, time: NetworkTime) -> None:
        super().__init__()
        self.time = time
        self.depths: list[int] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int) -> Tensor:
        self.depths.append(exit_depth)
        clock = {"sit": 1000 * (1 - t), "sigma": 1000 * t, "sigma1000": t}[self.time]
        velocity = torch.tanh(x * (0.5 + clock.view(-1, 1, 1, 1) / 1000)) + 0.1 * exit_depth
        return -velocity if self.time == "sit" else velocity


@pytest.mark.parametrize("name", ["flow_euler", "flow_heun", "sit_sde", "dpm_solver"])
def test_one_network_behind_three_conventions_gives_the_same_samples(name: str) -> None:
    samples, depths = [], []
    for time in ("sigma1000", "sigma", "sit"):
        net = Wrapped(time)  # type: ignore[arg-type]
        solver = build(name, 12, FlowProcess(time))  # type: ignore[arg-type]
        noise = make_noise(3, torch.float32)
        schedule = ExitSchedule((3, 3, 2, 2, 2, 2, 1, 1, 1, 1))
        samples.append(generate(net, schedule, solver, noise, None, 8))  # type: ignore[arg-type]
        depths.append(net.depths)
    torch.testing.assert_close(samples[1], samples[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(samples[2], samples[0], rtol=1e-6, atol=1e-6)
    assert depths[0] == depths[1] == depths[2] == sorted(depths[0])


def curved(x: Tensor, t: float) -> Tensor:
    return gaussian_velocity(FLOW)(x, t) + 0.1 * bent_denoiser(x, t)


@pytest.mark.parametrize("name", ["flow_euler", "flow_heun", "dpm_solver"])
@pytest.mark.parametrize("num_steps", [1, 3, 5])
def test_fitted_steps_beat_as_many_plain_ones(name: str, num_steps: int) -> None:
    full = build(name, 20)
    batch = CalibrationBatch(noise=make_noise(64), start=lambda wants: curved)
    fit = fit_steps(full, [batch], num_steps)
    few = FittedSolver(FLOW, fit.times, fit.coefficients, fit.output)
    assert few.wants == "velocity"
    assert all(a > b for a, b in itertools.pairwise(few.times))
    noise = make_noise(80)[64:]
    wanted = full.sample(curved, noise)
    plain = build("flow_euler", num_steps).sample(curved, noise)
    ours = float((few.sample(curved, noise) - wanted).norm())
    assert ours < 0.5 * float((plain - wanted).norm())


def test_fitted_steps_belong_to_their_process() -> None:
    numbers = FittedStepsNumbers(output="noise", times=(999.0,), coefficients=((1.0, 0.0, 0.0),))
    with pytest.raises(ConfigError, match=r"of the noise, which the process flow has not"):
        numbers.solver(FLOW, 1.0)
    numbers = FittedStepsNumbers(
        output="data", times=(999.0,), coefficients=((1.0, 0.0, 0.0),), process="ddpm"
    )
    with pytest.raises(ConfigError, match=r"fitted on the process ddpm, but got flow; use"):
        numbers.solver(FLOW, 1.0)
    assert numbers.solver(DDPMProcess(), 1.0).wants == "eps"


def test_every_solver_of_flow_matching_wants_the_best_denoiser_of_its_kind() -> None:
    for name in ("flow_euler", "flow_heun", "dpm_solver"):
        solver = build(name, 400)
        alpha, sigma = scales_at(FLOW, solver.times[0])
        start = torch.full((1, 1, 1, 1), alpha * MEAN + sigma, dtype=torch.float64)
        found = float(solver.sample(best_denoiser(solver), start))
        assert found == pytest.approx(MEAN + STD, abs=0.02)
