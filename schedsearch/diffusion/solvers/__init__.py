"""Solvers of the reverse process; all they see of a model is a denoiser."""

from __future__ import annotations

from schedsearch.diffusion.process import DDPMProcess, NoiseProcess
from schedsearch.diffusion.solvers.ddim import DDIM
from schedsearch.diffusion.solvers.dpm_solver import DPMSolver
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Solver
from schedsearch.settings import SolverSettings

__all__ = ["DDIM", "SOLVERS", "DPMSolver", "build_solver"]

SOLVERS: dict[str, type[DPMSolver]] = {"ddim": DDIM, "dpm_solver": DPMSolver}
"""Solvers by the name they have in a search space."""


def build_solver(
    settings: SolverSettings, process: NoiseProcess, *, learned_variance: bool = False
) -> Solver:
    """The solver that the section ``solver`` of a search space names.

    Args:
        settings: Section ``solver``.
        process: Process whose reverse is integrated.
        learned_variance: Whether the backbone predicts variances.

    Raises:
        ConfigError: If the settings ask for the impossible.
    """
    if settings.name not in SOLVERS:
        raise ConfigError(
            f"solver.name must be one of {', '.join(SOLVERS)}, but is {settings.name!r}."
        )
    if not isinstance(process, DDPMProcess):
        raise ConfigError(f"solver {settings.name} needs a process with timesteps.")
    try:
        return SOLVERS[settings.name](process, settings.num_steps, settings.spacing)
    except ValueError as error:
        raise ConfigError(f"solver: {error}") from error
