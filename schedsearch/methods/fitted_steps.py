"""Numbers of a few-step solver with fitted coefficients, as a method file holds them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.fitted import FittedSolver, Output, outputs_of
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.settings import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedStepsNumbers:
    """Times and coefficients of every step."""

    output: Output
    times: Annotated[tuple[Annotated[float, Field(ge=0, le=1000)], ...], Field(min_length=1)]
    """Clock times of the network calls, from noise to data."""
    coefficients: tuple[tuple[float, float, float], ...]
    """Factors of the state, the newest output and the output before it."""
    cfg_scale: Annotated[float, Field(ge=1)] = 1.0
    """Guidance that the outputs had."""
    process: Process | None = None
    """Process that they were fitted on; None fits any whose outputs they combine."""

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if any(now <= after for now, after in itertools.pairwise(self.times)):
            yield "times", "must fall from noise to data", None
        if len(self.coefficients) != len(self.times):
            reason = f"must be one per time, {len(self.times)}, got {len(self.coefficients)}"
            yield "coefficients", reason, None
        elif self.coefficients[0][2] != 0:
            reason = "the first step has no output before it, but its factor is not 0"
            yield "coefficients.0.2", reason, None

    def solver(self, process: NoiseProcess, cfg_scale: float) -> FittedSolver:
        """Build the solver.

        Args:
            process: The forward process of the model.
            cfg_scale: Guidance of the run.

        Raises:
            ConfigError: If the steps were fitted with another guidance or process.
        """
        if self.process not in (None, process.kind):
            raise ConfigError(
                f"The steps were fitted on the process {self.process}, but got {process.kind}; "
                "use the same, or fit them again."
            )
        if self.output not in outputs_of(process):
            raise ConfigError(
                f"The steps combine predictions of the {self.output}, which the process "
                f"{process.kind} has not; use the process that they were fitted on."
            )
        if cfg_scale != self.cfg_scale:
            raise ConfigError(
                f"The steps were fitted with cfg_scale {self.cfg_scale:g}, but got "
                f"{cfg_scale:g}; use the same, or fit them again."
            )
        return FittedSolver(process, self.times, self.coefficients, self.output)
