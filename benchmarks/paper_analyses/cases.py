"""Parts of an analysis: networks to fine-tune, and measurements of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from schedsearch.settings import LambdaSettings, SolverSettings

Depths = tuple[int, ...]
Kind = Literal["pretrained", "schedule", "uniform exits", "random schedules", "experts"]

ASE_LAMBDA = LambdaSettings(kind="linear", max=4.0, until=0.5)
"""The default of the project; the paper gives no numbers (ASE, Sec. 3.3)."""
NO_LAMBDA = LambdaSettings(kind="none")


def solver(name: Literal["ddim", "ddpm", "dpm_solver"], num_steps: int) -> SolverSettings:
    """A solver that calls the network equally often in every interval.

    DPM-Solver++ with ``linspace`` steps calls interval 0 less often than the others, so equal
    sums of depths would not be equal budgets; ``trailing`` steps visit all alike.
    ``num_steps`` must be a multiple of the number of intervals.
    """
    spacing: Literal["linspace", "trailing"]
    spacing = "trailing" if name == "dpm_solver" else "linspace"
    return SolverSettings(name=name, num_steps=num_steps, spacing=spacing)


DPM_20 = solver("dpm_solver", 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a network is made from the pretrained one."""

    kind: Kind
    depths: Depths | None = None
    """Exits of ``schedule`` and ``experts``."""
    num_steps: int = 0
    """Optimizer steps; of ``experts`` those of each expert."""
    lambda_weighting: LambdaSettings = ASE_LAMBDA
    ema_decay: float | Literal["auto"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One row of a table."""

    group: str
    """Rows of one group share a baseline."""
    row: str
    depths: Depths
    solver: SolverSettings = DPM_20
    is_baseline: bool = False
    tuned_interval: int | None = None
    """Use the tuned network in this interval only, and the pretrained one elsewhere."""
    paper: str = ""
    """The paper's FID."""

    @property
    def key(self) -> str:
        """Name in the JSON file."""
        return f"{self.group} | {self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network and its measurements: the work of one worker process."""

    tuning: Tuning
    measurements: Sequence[Measurement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One analysis.

    Args:
        name: Name on the command line.
        title: Heading of the page.
        question: What the page answers.
        rows: What the rows are.
        limits: What the rows cannot say, besides what holds for every analysis.
        cases: Cases for a scale of the fine-tunes' lengths; 1 is what the page reports.
    """

    name: str
    title: str
    question: str
    rows: str
    limits: Sequence[str]
    cases: Callable[[float], Sequence[Case]]
