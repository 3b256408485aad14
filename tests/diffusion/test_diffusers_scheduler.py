"""diffusers' scheduler for a solver: the same samples, or a refusal."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from schedsearch.diffusion.diffusers_scheduler import diffusers_scheduler
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DiffusionSettings, SolverSettings

SOLVERS: list[dict[str, Any]] = [
    {"name": "ddim"},
    {"name": "dpm_solver"},
    {"name": "dpm_solver", "order": 1},
    {"name": "dpm_solver", "algorithm": "dpmsolver"},
]
PROCESSES = [("linear", "eps"), ("linear", "v"), ("linear", "x0"), ("cosine", "eps")]


def network(x: Tensor, t: float) -> Tensor:
    """A stand-in for a network: smooth, bounded, different at each time."""
    return 0.7 * torch.tanh((1 + t / 1000) * x) + 0.1 * torch.sin(x)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_scheduler_samples_as_the_solver(solver: dict[str, Any], spacing: Any) -> None:
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for (betas, prediction), steps in itertools.product(PROCESSES, (3, 20, 60)):
        settings = SolverSettings(num_steps=steps, spacing=spacing, **solver)
        diffusion = DiffusionSettings(betas=betas, prediction=prediction)
        process = build_process(diffusion)

        def denoise(x: Tensor, t: float, process: Any = process) -> Tensor:
            return process.eps_from(network(x, t), x, t)

        expected = build_solver(settings, process).sample(denoise, noise)
        scheduler = diffusers_scheduler(settings, diffusion)
        scheduler = type(scheduler).from_config(scheduler.config)  # as from a file
        scheduler.set_timesteps(steps)
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, float(t)), t, x).prev_sample
        error = float((x - expected).norm() / expected.norm())
        assert error < 5e-5, (betas, prediction, steps)


def test_betas_are_listed_only_where_the_stride_differs() -> None:
    diffusion = DiffusionSettings()

    def listed(spacing: Any, steps: int) -> Any:
        settings = SolverSettings(name="ddim", num_steps=steps, spacing=spacing)
        return diffusers_scheduler(settings, diffusion).config.trained_betas

    assert listed("leading", 30) is None
    assert listed("trailing", 50) is None
    betas = listed("linspace", 50)
    assert len(betas) == 1000
    # The times end with 41, 20, 0. From 41 diffusers goes to 41 - 1000 // 50 = 21, ours to 20.
    assert betas[21] == 0
    assert betas[0] == pytest.approx(1e-4)
    assert betas[20] == pytest.approx(1e-4 + 20 * (0.02 - 1e-4) / 999)


def test_other_timesteps_are_refused() -> None:
    settings = SolverSettings(name="ddim", num_steps=1)  # ours is 999, diffusers' 0
    with pytest.raises(ConfigError, match="call 1 is at 0, not at 999"):
        diffusers_scheduler(settings, DiffusionSettings())


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_cosine_betas_need_a_prediction_of_noise(prediction: Any) -> None:
    diffusion = DiffusionSettings(betas="cosine", prediction=prediction)
    with pytest.raises(ConfigError, match="float32 loses"):
        diffusers_scheduler(SolverSettings(), diffusion)
