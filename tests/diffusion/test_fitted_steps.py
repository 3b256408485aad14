"""Solvers with fitted coefficients: nearer to the full run than as many plain steps."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from gaussian_data import bent_denoiser, gaussian_denoiser, make_noise
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.diffusion.solvers.fit import (
    CalibrationBatch,
    ddim_coefficients,
    fit_steps,
    meeting_calls,
)
from schedsearch.diffusion.solvers.fitted import FittedSolver, Output, scales_at
from schedsearch.protocols import Denoiser, Solver
from schedsearch.settings import SolverSettings

LINEAR, VP = DDPMProcess(), VPProcess()
DDIM = SolverSettings(name="ddim", num_steps=20)
DPM = SolverSettings(name="dpm_solver", num_steps=20)
NOISE_DPM = replace(DPM, algorithm="dpmsolver")


def solver_of(settings: SolverSettings, process: NoiseProcess = LINEAR) -> Solver:
    return build_solver(settings, process)


def curved(x: Tensor, t: float) -> Tensor:
    """The best prediction for Gaussian data, bent: no step is linear in the state."""
    return gaussian_denoiser(LINEAR)(x, t) + 0.1 * bent_denoiser(x, t)


def batches(denoiser: Denoiser, *noises: Tensor) -> list[CalibrationBatch]:
    return [CalibrationBatch(noise=noise, start=lambda wants: denoiser) for noise in noises]


def fitted(
    solver: Solver, num_steps: int, denoiser: Denoiser = curved, *noises: Tensor
) -> FittedSolver:
    fit = fit_steps(solver, batches(denoiser, *(noises or (make_noise(64),))), num_steps)
    assert isinstance(solver.process, NoiseProcess)
    return FittedSolver(solver.process, fit.times, fit.coefficients, fit.output)


def gap(one: Solver, other: Solver, denoiser: Denoiser, noise: Tensor) -> float:
    ours, theirs = one.sample(denoiser, noise), other.sample(denoiser, noise)
    return float((ours - theirs).square().mean().sqrt())


def fresh_noise() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(32, 1, 4, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("settings", [DDIM, DPM, NOISE_DPM])
@pytest.mark.parametrize("num_steps", [1, 3, 5])
def test_of_gaussian_data_few_fitted_steps_give_the_full_run(
    settings: SolverSettings, num_steps: int
) -> None:
    """State and outputs are affine in each other here, so any coefficients must do."""
    full, plain = solver_of(settings), solver_of(replace(settings, num_steps=num_steps))
    denoiser = gaussian_denoiser(LINEAR)
    few = fitted(full, num_steps, denoiser)
    noise = fresh_noise()
    plain_gap = gap(plain, full, denoiser, noise)
    assert plain_gap > 0.001
    assert gap(few, full, denoiser, noise) < 0.02 * plain_gap
    assert max(abs(c) for step in few.coefficients for c in step) < 300  # alpha begins at 0.006


@pytest.mark.parametrize("settings", [DDIM, DPM, NOISE_DPM])
@pytest.mark.parametrize("num_steps", [5, 8])
def test_fitted_steps_beat_as_many_plain_ones(settings: SolverSettings, num_steps: int) -> None:
    full, plain = solver_of(settings), solver_of(replace(settings, num_steps=num_steps))
    noise = fresh_noise()
    ours = gap(fitted(full, num_steps), full, curved, noise)
    assert ours < 0.6 * gap(plain, full, curved, noise)


@pytest.mark.parametrize(
    ("settings", "process", "output"),
    [
        (DDIM, LINEAR, None),
        (replace(DPM, order=1), LINEAR, None),
        (DPM, LINEAR, "data"),
        (DPM, VP, "data"),
        (NOISE_DPM, LINEAR, "noise"),
    ],
)
def test_as_many_steps_as_the_full_run_are_the_full_run(
    settings: SolverSettings, process: NoiseProcess, output: Output | None
) -> None:
    full = solver_of(settings, process)
    few = fitted(full, 20)
    assert few.times == full.times
    assert gap(few, full, curved, fresh_noise()) < 1e-4
    assert output in (None, few.output), "the output that the solver integrates is exact"


def test_the_first_step_has_no_output_before_it() -> None:
    few = fitted(solver_of(DPM), 6)
    assert few.coefficients[0][2] == 0.0
    assert all(c != 0.0 for _, _, c in few.coefficients[1:])


def test_every_step_is_the_best_on_the_way_that_was_taken() -> None:
    """Another factor in any step takes the state farther from the full run's."""
    full, noise = solver_of(DPM), make_noise(64)
    few = fitted(full, 5)
    ends = [*meeting_calls(20, 5)[1:], 20]
    states = list(full.trajectory(curved, noise))

    def distances(coefficients: Any) -> list[float]:
        solver = FittedSolver(LINEAR, few.times, coefficients, few.output)
        run = solver.trajectory(curved, noise)
        return [float((x - states[e - 1]).norm()) for x, e in zip(run, ends, strict=True)]

    best = distances(few.coefficients)
    for step, row in enumerate(few.coefficients):
        for term in range(3 if step else 2):
            for factor in (0.99, 1.01):
                changed = [list(c) for c in few.coefficients]
                changed[step][term] = row[term] * factor
                assert distances(changed)[step] > best[step]
    assert fit_steps(full, batches(curved, noise), 5).distance == pytest.approx(
        best[-1] / noise.numel() ** 0.5
    )


def test_batches_count_as_one() -> None:
    noise, full = make_noise(64), solver_of(DPM)
    whole = fit_steps(full, batches(curved, noise), 4)
    parts = fit_steps(full, batches(curved, noise[:50], noise[50:]), 4)
    torch.testing.assert_close(torch.tensor(parts.coefficients), torch.tensor(whole.coefficients))
    assert parts.distance == pytest.approx(whole.distance)


@pytest.mark.parametrize("num_full", [7, 20, 50])
def test_the_runs_meet_evenly_from_the_first_call(num_full: int) -> None:
    for num_steps in range(1, num_full + 1):
        calls = meeting_calls(num_full, num_steps)
        assert len(calls) == num_steps
        assert calls[0] == 0
        gaps = [after - now for now, after in zip(calls, [*calls[1:], num_full], strict=True)]
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1
    assert meeting_calls(20, 9) == (0, 2, 4, 7, 9, 11, 13, 16, 18)
    for wrong in (0, num_full + 1):
        with pytest.raises(ValueError, match=f"1 to {num_full} of the full run's, got {wrong}"):
            meeting_calls(num_full, wrong)


@pytest.mark.parametrize("output", ["noise", "data"])
def test_the_ridge_pulls_towards_ddim(output: Output) -> None:
    """With DDIM's own coefficients the solver is DDIM."""
    ddim = solver_of(DDIM)
    scales = [*scales_at(LINEAR, ddim.times), (1.0, 0.0)]
    rows = [ddim_coefficients(*pair, output) for pair in itertools.pairwise(scales)]
    same = FittedSolver(LINEAR, ddim.times, rows, output)
    assert gap(same, ddim, curved, fresh_noise()) < 1e-10


@pytest.mark.parametrize(
    ("settings", "process"),
    [
        (SolverSettings(name="ddpm", num_steps=5), LINEAR),
        (SolverSettings(name="ddim", num_steps=5, eta=0.5), LINEAR),
        (SolverSettings(name="euler_maruyama", num_steps=5), VP),
    ],
)
def test_a_run_with_noise_in_its_steps_cannot_be_followed(
    settings: SolverSettings, process: NoiseProcess
) -> None:
    with pytest.raises(ValueError, match="adds noise in its steps"):
        fitted(solver_of(settings, process), 3)


def test_a_run_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        fitted(solver_of(DDIM), 3, lambda x, t: x * float("nan"))


def test_a_network_that_predicts_nothing_has_coefficients_too() -> None:
    few = fitted(solver_of(DDIM), 3, lambda x, t: torch.zeros_like(x))
    assert gap(few, solver_of(DDIM), lambda x, t: torch.zeros_like(x), fresh_noise()) < 1e-4


def test_the_contract_of_a_solver() -> None:
    few, noise = fitted(solver_of(DPM), 4), make_noise(3, torch.float32)
    calls: list[float] = []

    def denoiser(x: Tensor, t: float) -> Tensor:
        assert not torch.is_grad_enabled()
        calls.append(t)
        return curved(x, t)

    steps = list(few.trajectory(denoiser, noise))
    assert (few.num_steps, tuple(calls)) == (4, few.times)
    assert len(steps) == 4
    assert torch.equal(few.sample(denoiser, noise), steps[-1])
    assert steps[-1].dtype == torch.float32
    assert torch.equal(noise, make_noise(3, torch.float32))
    assert not few.wants_variance
