"""Rules for the solver: its options, numbers of steps, the process and the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from schedsearch.config.backbone_rules import known_arguments, shipped_family
from schedsearch.files.problems import Mistake, shown
from schedsearch.settings import (
    BackboneSettings,
    DiffusionSettings,
    Prediction,
    Process,
    SolverSettings,
)
from schedsearch.settings.plan import PLAN, PlanSettings

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

SOLVERS_OF: dict[Process, tuple[str, ...]] = {
    "ddpm": ("ddpm", "ddim", "dpm_solver"),
    "vp": ("dpm_solver", "euler_maruyama"),
    "flow": ("flow_euler", "flow_heun", "sit_sde", "dpm_solver"),
}
"""Solvers by the process that they can reverse."""


def solver_mistakes(
    solver: SolverSettings,
    *,
    process: Process,
    prediction: Prediction | None = None,
    learned_variance: bool | None = None,
) -> Iterator[Mistake]:
    """Find options that do not fit the solver or the process.

    Args:
        solver: Section ``solver``, of valid types and ranges.
        process: The forward process.
        prediction: What the network predicts; None if that does not matter here.
        learned_variance: Whether the network predicts variances; None if that is not known.
    """
    if solver.name not in SOLVERS_OF[process]:
        yield _other_process(solver.name, process)
        return
    yield from _options_of_others(solver)
    if process == "flow":
        yield from _flow(solver, prediction)
    else:
        yield from _times(solver, continuous=process == "vp")
    if solver.name == "ddpm" and solver.variance == "learned" and learned_variance is False:
        reason = "learned needs a backbone that predicts variances (learn_sigma)"
        yield "solver.variance", reason, "set it to auto, fixed_small or fixed_large"


def _other_process(name: str, process: Process) -> Mistake:
    """The solver belongs to other processes."""
    theirs = " or ".join(other for other, names in SOLVERS_OF.items() if name in names)
    remedy = f"set it to {' or '.join(SOLVERS_OF[process])}, or diffusion.process to {theirs}"
    return "solver.name", f"{name} cannot run on the process {process}", remedy


def draws_noise(solver: SolverSettings) -> bool:
    """Whether the solver adds noise in its steps."""
    return solver.name in ("ddpm", "euler_maruyama", "sit_sde") or solver.eta > 0


def solver_options(
    solver: SolverSettings, diffusion: DiffusionSettings, backbone: BackboneSettings | None = None
) -> Iterator[Mistake]:
    """The solver has fitting options and can run on the process."""
    arguments = None if backbone is None else known_arguments(backbone)
    learned = None if arguments is None else arguments.predicts_variance
    yield from solver_mistakes(
        solver,
        process=diffusion.process or "ddpm",
        prediction=diffusion.prediction,
        learned_variance=learned,
    )


def other_steps(
    at: str, several: Sequence[int], solver: SolverSettings, diffusion: DiffusionSettings
) -> Iterator[Mistake]:
    """The solver takes other numbers of steps than its own.

    Args:
        at: Key of the numbers.
        several: The numbers.
        solver: Section ``solver``.
        diffusion: Section ``diffusion``.
    """
    for index, num_steps in enumerate(several):
        other = dataclasses.replace(solver, num_steps=num_steps)
        for key, reason, remedy in solver_mistakes(other, process=diffusion.process or "ddpm"):
            if key == "solver.num_steps":
                yield f"{at}.{index}", reason, remedy


def plans_fit(
    plan: PlanSettings | None, solver: SolverSettings, diffusion: DiffusionSettings
) -> Iterator[Mistake]:
    """Plans have fewer steps than the solver, and the solver can take them."""
    if plan is None:
        return
    at = f"{PLAN}.num_steps"
    yield from other_steps(at, plan.num_steps, solver, diffusion)
    for index, num_steps in enumerate(plan.num_steps):
        if num_steps >= solver.num_steps:
            reason = f"must be below the solver's {solver.num_steps} steps, got {num_steps}"
            yield f"{at}.{index}", reason, "remove it"


def trained_by_flow(backbone: BackboneSettings, diffusion: DiffusionSettings) -> Iterator[Mistake]:
    """A SiT is a network of flow matching."""
    if shipped_family(backbone) == "sit" and diffusion.process != "flow":
        reason = f"a SiT is trained by flow matching, got {diffusion.process}"
        yield "diffusion.process", reason, "write process: flow and time: sit, or leave both out"


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
    if solver.shift != 1:
        reason = f"belongs to flow matching, got {solver.shift:g}"
        yield "solver.shift", reason, "remove the key, or set diffusion.process to flow"
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


def _flow(solver: SolverSettings, prediction: Prediction | None) -> Iterator[Mistake]:
    """What solvers on the straight path cannot do."""
    if solver.spacing != DEFAULTS.spacing:
        reason = f"the times of flow matching are uniform before the shift, got {solver.spacing}"
        yield "solver.spacing", reason, "remove the key"
    if solver.end_time is not None and solver.name != "sit_sde":
        reason = f"{solver.name} ends at the data, got {solver.end_time:g}"
        yield "solver.end_time", reason, "remove the key"
    if solver.shift != 1 and solver.name == "sit_sde":
        reason = f"sit_sde takes equal steps, got {solver.shift:g}"
        yield "solver.shift", reason, "remove the key"
    if solver.name == "flow_heun" and solver.num_steps % 2:
        reason = f"flow_heun makes two network calls per step, got {solver.num_steps} calls"
        yield "solver.num_steps", reason, "take an even number"
    if solver.name == "sit_sde" and solver.num_steps < 2:
        reason = "sit_sde needs a first and a last step, got 1 network call"
        yield "solver.num_steps", reason, "take at least 2"
    if solver.name != "dpm_solver":
        return
    if prediction == "eps":
        reason = "dpm_solver starts at sigma = 0.999, where a prediction of eps says too little"
        yield "solver.name", reason, "set it to flow_euler, flow_heun or sit_sde"
    for key, allowed in (("method", "multistep"), ("algorithm", "dpmsolver++")):
        if (value := getattr(solver, key)) != allowed:
            reason = f"dpm_solver on flow matching is {allowed}, got {value}"
            yield f"solver.{key}", reason, "remove the key"
    if solver.order == 3:
        reason = "dpm_solver on flow matching has order 1 or 2, got 3"
        yield "solver.order", reason, "set it to 2"


def _most_steps(solver: SolverSettings) -> int:
    """Beyond it a list visits timestep 0, where the solver ends, or a timestep twice."""
    if solver.spacing != "trailing":
        return 999
    return 1000 if solver.algorithm == "dpmsolver++" else 666  # 1000 / 667 rounds to 1
