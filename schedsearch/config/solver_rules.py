"""Rules for the solver: its options, the process and the network."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.config.backbone_rules import known_arguments
from schedsearch.files.problems import Mistake, shown
from schedsearch.settings import BackboneSettings, DiffusionSettings, SolverSettings

OWN_OPTIONS = {
    "eta": "ddim",
    "variance": "ddpm",
    "order": "dpm_solver",
    "method": "dpm_solver",
    "algorithm": "dpm_solver",
}
"""Options that only one solver has, and which."""

DEFAULTS = SolverSettings()

FEWEST_STEPS = {1: 1, 2: 2, 3: 4}
"""Least network calls of a singlestep solver, by order."""


def solver_mistakes(
    solver: SolverSettings, *, continuous: bool, learned_variance: bool | None = None
) -> Iterator[Mistake]:
    """Find options that do not fit the solver or the process.

    Args:
        solver: Section ``solver``, of valid types and ranges.
        continuous: Whether the process is continuous (``diffusion.betas: vp``).
        learned_variance: Whether the network predicts variances; None if that is not known.
    """
    if continuous and solver.name in ("ddpm", "ddim"):
        reason = f"{solver.name} steps through timesteps, but diffusion.betas: vp has none"
        remedy = "set it to dpm_solver or euler_maruyama, or diffusion.betas to linear or cosine"
        yield "solver.name", reason, remedy
    elif not continuous and solver.name == "euler_maruyama":
        reason = "euler_maruyama needs the continuous process"
        yield "solver.name", reason, "set it to ddpm, or diffusion.betas to vp"
    else:
        yield from _options_of_others(solver)
        yield from _times(solver, continuous=continuous)
        if solver.name == "ddpm" and solver.variance == "learned" and learned_variance is False:
            reason = "learned needs a backbone that predicts variances (learn_sigma)"
            yield "solver.variance", reason, "set it to auto, fixed_small or fixed_large"


def draws_noise(solver: SolverSettings) -> bool:
    """Whether the solver adds noise in its steps."""
    return solver.name in ("ddpm", "euler_maruyama") or solver.eta > 0


def solver_options(
    solver: SolverSettings, diffusion: DiffusionSettings, backbone: BackboneSettings | None = None
) -> Iterator[Mistake]:
    """The solver has fitting options and can run on the process."""
    arguments = None if backbone is None else known_arguments(backbone)
    learned = None if arguments is None else arguments.learn_sigma
    yield from solver_mistakes(
        solver, continuous=diffusion.betas == "vp", learned_variance=learned
    )


def guidance(backbone: BackboneSettings, solver: SolverSettings) -> Iterator[Mistake]:
    """The network has the channels and the label for "no class" that guidance needs."""
    arguments = known_arguments(backbone)
    if arguments is None:
        return
    if solver.cfg_scale != 1 and not arguments.has_null_class:
        reason = (
            f"classifier-free guidance needs a backbone with {arguments.null_class_remedy}, "
            f"got a scale of {solver.cfg_scale:g}"
        )
        yield "solver.cfg_scale", reason, "set it to 1"
    channels = arguments.input_shape[0]
    if solver.cfg_channels is not None and solver.cfg_channels > channels:
        reason = f"the backbone has {channels} channels, got {solver.cfg_channels}"
        yield "solver.cfg_channels", reason, "remove the key to guide all of them"


def _options_of_others(solver: SolverSettings) -> Iterator[Mistake]:
    for key, owner in OWN_OPTIONS.items():
        value = getattr(solver, key)
        if solver.name != owner and value != getattr(DEFAULTS, key):
            reason = f"is an option of {owner}, got {shown(value)} with {solver.name}"
            yield f"solver.{key}", reason, f"remove the key, or set name to {owner}"


def _times(solver: SolverSettings, *, continuous: bool) -> Iterator[Mistake]:
    singlestep = solver.name == "dpm_solver" and solver.method == "singlestep"
    if solver.spacing != DEFAULTS.spacing and (continuous or singlestep):
        which = f"{solver.name} with betas: vp" if continuous else "singlestep dpm_solver"
        spaced = "in time" if solver.name == "euler_maruyama" else "in logSNR"
        reason = f"{which} always takes equal steps {spaced}, got {shown(solver.spacing)}"
        yield "solver.spacing", reason, "remove the key"
    if solver.end_time is not None and not continuous:
        reason = f"belongs to the continuous process, got {solver.end_time:g} with timesteps"
        yield "solver.end_time", reason, "remove the key, or set diffusion.betas to vp"
    steps, least, most = solver.num_steps, FEWEST_STEPS[solver.order], _most_steps(solver)
    if singlestep and steps < least:
        which = f"singlestep dpm_solver of order {solver.order}"
        reason = f"{which} needs at least {least} network calls, got {steps}"
        yield "solver.num_steps", reason, "take more steps or a lower order"
    if solver.name == "dpm_solver" and not singlestep and not continuous and steps > most:
        which = f"{solver.algorithm} with {solver.spacing} spacing"
        reason = f"{which} takes at most {most} steps on 1000 timesteps, got {steps}"
        yield "solver.num_steps", reason, "take fewer steps, or use ddim"


def _most_steps(solver: SolverSettings) -> int:
    """Beyond it a list visits timestep 0, where the solver ends, or a timestep twice."""
    if solver.spacing != "trailing":
        return 999
    return 1000 if solver.algorithm == "dpmsolver++" else 666  # 1000 / 667 rounds to 1
