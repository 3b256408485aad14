"""diffusers' scheduler that takes the steps of one of our solvers."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from schedsearch.config.solver_rules import draws_noise
from schedsearch.diffusion.process import (
    BETA_END,
    BETA_START,
    NUM_TIMESTEPS,
    DDPMProcess,
    build_process,
)
from schedsearch.diffusion.solvers import build_solver
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DiffusionSettings, SolverSettings

_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
"""Our names of what a network predicts, and diffusers'."""


def diffusers_scheduler(settings: SolverSettings, diffusion: DiffusionSettings) -> Any:
    """Build the scheduler whose samples equal the solver's, but for float32.

    ``DDIMScheduler`` steps by ``1000 // N`` timesteps, our :class:`DDIM` to the next one. Where
    these differ, as with ``linspace``, its ``trained_betas`` hold alpha_bar constant in between.
    Such a scheduler is right for ``solver.num_steps`` steps only.

    Args:
        settings: Section ``solver``.
        diffusion: Section ``diffusion``.

    Raises:
        ConfigError: If diffusers has none with the same samples.
    """
    process = build_process(diffusion)
    if (why := _why_none(settings, diffusion)) is not None or not isinstance(process, DDPMProcess):
        raise ConfigError(
            f"diffusers' DiTPipeline cannot repeat the samples of this run: {why}. Search with "
            "ddim and eta 0, or with multistep dpm_solver of order 1 or 2."
        )
    times = build_solver(settings, process).times
    common = {
        "timestep_spacing": settings.spacing,
        "prediction_type": _PREDICTIONS[process.prediction],
    }
    if settings.name == "ddim":
        scheduler = _ddim({**common, **_betas(diffusion)}, process, times)
    else:
        scheduler = _dpm_solver({**common, **_betas(diffusion)}, settings)
    scheduler.set_timesteps(len(times))
    if (theirs := scheduler.timesteps.tolist()) != list(times):
        raise ConfigError(
            f"diffusers' {type(scheduler).__name__} takes other timesteps than this run: "
            f"{_first_difference(theirs, times)}. Search with another spacing or num_steps."
        )
    return scheduler


def _why_none(settings: SolverSettings, diffusion: DiffusionSettings) -> str | None:
    if diffusion.process != "ddpm":
        return f"its process is {diffusion.process}, not ddpm"
    if draws_noise(settings):
        return f"its solver {settings.name} draws noise, which diffusers draws in another way"
    if settings.method == "singlestep":
        return "diffusers rounds the times of singlestep dpm_solver"
    if settings.order == 3:
        return "diffusers has no dpm_solver of true order 3"
    if diffusion.betas == "cosine" and diffusion.prediction != "eps":
        return f"float32 loses a prediction of {diffusion.prediction} with cosine betas"
    return None


def _betas(diffusion: DiffusionSettings) -> dict[str, Any]:
    if diffusion.betas == "cosine":
        return {"beta_schedule": "squaredcos_cap_v2"}
    return {"beta_schedule": "linear", "beta_start": BETA_START, "beta_end": BETA_END}


def _ddim(config: dict[str, Any], process: DDPMProcess, times: Sequence[float]) -> Any:
    from diffusers import DDIMScheduler

    bars = process.alpha_bars.clone()
    stride = NUM_TIMESTEPS // len(times)
    # NOTE: The stride never passes the next timestep, because it is rounded down.
    for now, after in itertools.pairwise([*map(int, times), -1]):
        bars[max(after, 0) : max(now - stride, -1) + 1] = 1.0 if after < 0 else bars[after].item()
    if not torch.equal(bars, process.alpha_bars):
        before = torch.cat([torch.ones(1, dtype=bars.dtype), bars[:-1]])
        config["trained_betas"] = (1.0 - bars / before).tolist()
    return DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=True, steps_offset=0)


def _dpm_solver(config: dict[str, Any], settings: SolverSettings) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    in_data = settings.algorithm == "dpmsolver++"
    with warnings.catch_warnings():
        # NOTE: As in solvers/dpm_solver.py, it warns of a later release.
        warnings.simplefilter("ignore", FutureWarning)
        return DPMSolverMultistepScheduler(
            **config,
            solver_order=settings.order,
            algorithm_type=settings.algorithm,
            solver_type="midpoint",
            final_sigmas_type="zero" if in_data else "sigma_min",
            steps_offset=0,
        )


def _first_difference(theirs: Sequence[float], ours: Sequence[float]) -> str:
    pairs = itertools.zip_longest(theirs, ours)
    index, (other, own) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"call {index + 1} is at {other}, not at {own}"
