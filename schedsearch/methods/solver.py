"""The solver that a method runs with."""

from __future__ import annotations

from dataclasses import replace

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.exceptions import ConfigError
from schedsearch.methods.kinds import fitted_numbers
from schedsearch.methods.method_file import REMEDY, MethodFile
from schedsearch.protocols import Solver
from schedsearch.settings import SolverSettings

OWN_STEPS = frozenset({"steps", "plan"})
"""Kinds that choose the number of solver steps."""


def solver_for(file: MethodFile, solver: SolverSettings) -> SolverSettings:
    """The settings that a method runs with: other steps where they belong to the method.

    Raises:
        ConfigError: If a plan was made for a space with another number of steps.
    """
    if file.kind not in OWN_STEPS or file.num_steps is None:
        return solver
    full_steps = file.numbers.get("full_steps", file.num_steps)
    if file.kind == "plan" and solver.num_steps not in (file.num_steps, full_steps):
        raise ConfigError(
            f"The plan {file.name} is for {file.num_steps} solver steps, but solver.num_steps is "
            f"{solver.num_steps}. {REMEDY}"
        )
    return replace(solver, num_steps=file.num_steps)


def build_solver_for(
    file: MethodFile,
    settings: SolverSettings,
    process: NoiseProcess,
    *,
    learned_variance: bool = False,
) -> Solver:
    """Build the solver of a method: as set, with fewer steps, or with fitted steps.

    Args:
        file: The method.
        settings: Section ``solver``.
        process: Forward process to reverse.
        learned_variance: Whether the backbone predicts variances.

    Raises:
        ConfigError: If the settings do not fit the process, or steps were fitted with others.
    """
    if file.kind == "fitted_steps":
        if settings.cfg_interval is not None:
            raise ConfigError(
                "The steps were fitted with the same guidance in all calls, but "
                "solver.cfg_interval is set; set it to null."
            )
        return fitted_numbers(file.numbers).solver(process, settings.cfg_scale)
    return build_solver(solver_for(file, settings), process, learned_variance=learned_variance)
