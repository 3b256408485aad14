"""Solvers of the reverse process, and their construction from settings.

A solver belongs here with its coefficients and times; it sees the model only as a denoiser. Rules
about valid settings are in ``config/solver_rules.py``. Read first: ``base.py``, ``ddim.py``,
``times.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schedsearch.config.solver_rules import solver_mistakes
from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.process import NoiseProcess, VPProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.diffusion.solvers.ddim import DDIM
from schedsearch.diffusion.solvers.ddpm import DDPM, StepVariance
from schedsearch.diffusion.solvers.dpm_singlestep import SinglestepDPMSolver
from schedsearch.diffusion.solvers.dpm_solver import MultistepDPMSolver
from schedsearch.diffusion.solvers.dpm_third_order import ThirdOrderDPMSolver
from schedsearch.diffusion.solvers.euler_maruyama import END_TIME, EulerMaruyama
from schedsearch.diffusion.solvers.flow import FlowEuler, FlowHeun
from schedsearch.diffusion.solvers.sit_sde import END_TIME as SDE_END_TIME
from schedsearch.diffusion.solvers.sit_sde import SitSDE
from schedsearch.diffusion.solvers.times import (
    ddim_times,
    dpm_solver_times,
    flow_dpm_times,
    log_snr_times,
)
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Solver
from schedsearch.settings import SolverSettings

__all__ = [
    "DDIM",
    "DDPM",
    "SOLVERS",
    "EulerMaruyama",
    "FlowEuler",
    "FlowHeun",
    "MultistepDPMSolver",
    "SinglestepDPMSolver",
    "SitSDE",
    "ThirdOrderDPMSolver",
    "build_solver",
]

CONTINUOUS_END = 0.1
"""Clock time where DPM-Solver ends on the continuous process, s = 1e-4 (U-ViT's code)."""


def build_solver(
    settings: SolverSettings, process: NoiseProcess, *, learned_variance: bool = False
) -> Solver:
    """Build the solver of the section ``solver``.

    Args:
        settings: Section ``solver``.
        process: Forward process to reverse.
        learned_variance: Whether the backbone predicts variances.

    Raises:
        ConfigError: If the settings contradict each other, the process or the backbone.
    """
    for key, reason, remedy in solver_mistakes(
        settings,
        process=process.kind,
        prediction=process.prediction,
        learned_variance=learned_variance,
    ):
        raise ConfigError(f"{key}: {reason}; {remedy}.")
    solver = SOLVERS[settings.name](settings, process, learned_variance)
    solver.cfg_interval = settings.cfg_interval
    return solver


def _ddpm(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    variance: StepVariance
    if settings.variance == "auto":
        variance = "learned" if learned_variance else "fixed_small"
    else:
        variance = settings.variance
    return DDPM(process, ddim_times(settings.spacing, settings.num_steps), variance)


def _ddim(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    return DDIM(process, ddim_times(settings.spacing, settings.num_steps), settings.eta)


def _dpm_solver(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    continuous = isinstance(process, VPProcess)
    order, algorithm = settings.order, settings.algorithm
    if isinstance(process, FlowProcess):
        times: Sequence[float] = flow_dpm_times(settings.num_steps, settings.shift)
        return MultistepDPMSolver(process, times, order=order)
    if settings.end_time is not None:
        end_time = settings.end_time
    else:
        end_time = CONTINUOUS_END if continuous else 0.0
    if settings.method == "singlestep":
        return SinglestepDPMSolver(
            process, settings.num_steps, order=order, algorithm=algorithm, end_time=end_time
        )
    if continuous:
        times = log_snr_times(process, settings.num_steps, end_time)[:-1]
        last: float | None = end_time
    else:
        times = dpm_solver_times(settings.spacing, settings.num_steps)
        last = None if algorithm == "dpmsolver++" else end_time
    if order == 3:
        return ThirdOrderDPMSolver(process, times, algorithm=algorithm, end_time=last)
    return MultistepDPMSolver(process, times, order=order, algorithm=algorithm, end_time=last)


def _euler_maruyama(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    assert isinstance(process, VPProcess)  # solver_mistakes
    end_time = END_TIME if settings.end_time is None else settings.end_time
    return EulerMaruyama(process, settings.num_steps, end_time)


def _flow_euler(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    assert isinstance(process, FlowProcess)  # solver_mistakes
    return FlowEuler(process, settings.num_steps, settings.shift)


def _flow_heun(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    assert isinstance(process, FlowProcess)  # solver_mistakes
    return FlowHeun(process, settings.num_steps, settings.shift)


def _sit_sde(
    settings: SolverSettings, process: NoiseProcess, learned_variance: bool
) -> FixedTimesSolver:
    assert isinstance(process, FlowProcess)  # solver_mistakes
    end_time = SDE_END_TIME if settings.end_time is None else settings.end_time
    return SitSDE(process, settings.num_steps, end_time)


SOLVERS: dict[str, Callable[[SolverSettings, NoiseProcess, bool], FixedTimesSolver]] = {
    "ddpm": _ddpm,
    "ddim": _ddim,
    "dpm_solver": _dpm_solver,
    "euler_maruyama": _euler_maruyama,
    "flow_euler": _flow_euler,
    "flow_heun": _flow_heun,
    "sit_sde": _sit_sde,
}
"""Builders by the solver's name in a search space."""
