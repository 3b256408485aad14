"""Rules for the solver: options that it knows, and how it fits the process and the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schedsearch.config.backbone_rules import (
    input_shape_of,
    known_arguments,
    learns_variance_of,
)
from schedsearch.files.problems import Findings, shown
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
"""Network calls for one singlestep update of this order; order 3 ends with a lower one."""


@dataclass(frozen=True, slots=True)
class SolverMistake:
    """A wrong value in the section ``solver``."""

    key: str
    reason: str
    remedy: str


def solver_mistakes(
    solver: SolverSettings, *, continuous: bool, learned_variance: bool | None = None
) -> Iterator[SolverMistake]:
    """What is wrong with a solver for a process.

    Args:
        solver: Section ``solver``, of valid types and ranges.
        continuous: Whether the process is continuous (``diffusion.betas: vp``).
        learned_variance: Whether the network predicts variances; None if that is not known.
    """
    if continuous and solver.name in ("ddpm", "ddim"):
        yield SolverMistake(
            "name",
            f"{solver.name} steps through timesteps, which diffusion.betas: vp has not",
            "set it to dpm_solver or euler_maruyama, or diffusion.betas to linear or cosine",
        )
        return
    if not continuous and solver.name == "euler_maruyama":
        yield SolverMistake(
            "name",
            "euler_maruyama needs the continuous process",
            "set it to ddpm, or diffusion.betas to vp",
        )
        return
    yield from _foreign_options(solver)
    yield from _time_mistakes(solver, continuous=continuous)
    if solver.variance == "learned" and learned_variance is False:
        yield SolverMistake(
            "variance",
            "learned needs a backbone that predicts variances (learn_sigma)",
            "set it to auto, fixed_small or fixed_large",
        )


def check_solver(solver: SolverSettings, diffusion: DiffusionSettings, findings: Findings) -> None:
    """Check the options of the solver, and that it can run on the process."""
    for mistake in solver_mistakes(solver, continuous=diffusion.betas == "vp"):
        findings.add(("solver", mistake.key), mistake.reason, mistake.remedy)


def check_guidance(backbone: BackboneSettings, solver: SolverSettings, findings: Findings) -> None:
    """Check that the network knows "no class" where guidance needs it."""
    arguments = known_arguments(backbone)
    if arguments is None or solver.cfg_scale == 1 or arguments.has_null_class:
        return
    findings.add(
        ("solver", "cfg_scale"),
        f"classifier-free guidance needs a backbone with {arguments.null_class_remedy}, "
        f"got a scale of {solver.cfg_scale:g}",
        "set it to 1",
    )


def check_outputs(backbone: BackboneSettings, solver: SolverSettings, findings: Findings) -> None:
    """Check that the network has the channels and variances that the solver takes."""
    shape = input_shape_of(backbone)
    if shape is not None and solver.cfg_channels is not None and solver.cfg_channels > shape[0]:
        findings.add(
            ("solver", "cfg_channels"),
            f"the backbone has {shape[0]} channels, got {solver.cfg_channels}",
            "remove the key to guide all of them",
        )
    if (
        solver.name == "ddpm"
        and solver.variance == "learned"
        and learns_variance_of(backbone) is False
    ):
        findings.add(
            ("solver", "variance"),
            "learned needs a backbone that predicts variances (learn_sigma)",
            "set it to auto, fixed_small or fixed_large",
        )


def _foreign_options(solver: SolverSettings) -> Iterator[SolverMistake]:
    for key, owner in OWN_OPTIONS.items():
        value = getattr(solver, key)
        if solver.name != owner and value != getattr(DEFAULTS, key):
            yield SolverMistake(
                key,
                f"is an option of {owner}, got {shown(value)} with {solver.name}",
                f"remove the key, or set name to {owner}",
            )


def _time_mistakes(solver: SolverSettings, *, continuous: bool) -> Iterator[SolverMistake]:
    singlestep = solver.name == "dpm_solver" and solver.method == "singlestep"
    if solver.spacing != DEFAULTS.spacing and (continuous or singlestep):
        spaced = "in time" if solver.name == "euler_maruyama" else "in logSNR"
        which = "singlestep dpm_solver" if not continuous else f"{solver.name} with betas: vp"
        yield SolverMistake(
            "spacing",
            f"{which} always takes equal steps {spaced}, got {shown(solver.spacing)}",
            "remove the key",
        )
    if solver.end_time is not None and not continuous:
        yield SolverMistake(
            "end_time",
            f"belongs to the continuous process, got {solver.end_time:g} with timesteps",
            "remove the key, or set diffusion.betas to vp",
        )
    if singlestep and solver.num_steps < FEWEST_STEPS[solver.order]:
        yield SolverMistake(
            "num_steps",
            f"singlestep dpm_solver of order {solver.order} needs at least "
            f"{FEWEST_STEPS[solver.order]} network calls, got {solver.num_steps}",
            "take more steps or a lower order",
        )
    if solver.name == "dpm_solver" and not singlestep and not continuous:
        most = _most_steps(solver)
        if solver.num_steps > most:
            yield SolverMistake(
                "num_steps",
                f"{solver.algorithm} with {solver.spacing} spacing takes at most {most} steps on "
                f"1000 timesteps, got {solver.num_steps}",
                "take fewer steps, or use ddim",
            )


def _most_steps(solver: SolverSettings) -> int:
    """Beyond it a list visits timestep 0, where the solver ends, or a timestep twice."""
    if solver.spacing != "trailing":
        return 999
    return 1000 if solver.algorithm == "dpmsolver++" else 666  # 1000 / 667 rounds to 1
