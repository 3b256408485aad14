"""How far measured schedules are from the best that the surrogate thinks possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schedsearch.planning.dynamic_programming import best_between
from schedsearch.planning.surrogate import Surrogate
from schedsearch.schedules.exit_schedule import ExitSchedule

CERTAIN = 2.0
"""Standard deviations beyond which a gap is called one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A measured schedule beside the surrogate's best one that costs no more.

    The bound is the surrogate's and no proof: it is exact for the additive part of the model,
    and as good as the model is. Standard deviations are those of log FID, so relative ones.
    """

    schedule: ExitSchedule
    blocks: int
    measured_fid: float
    predicted_fid: float
    predicted_sd: float
    best: ExitSchedule
    """The optimum at no more blocks; may be the schedule itself."""
    best_blocks: int
    best_fid: float
    """Its predicted FID, the bound."""
    best_sd: float
    gap: float
    """Expected log FID of the schedule above the optimum's."""
    gap_sd: float
    """Of the difference, in which shared errors cancel."""

    @property
    def sentence(self) -> str:
        """What it means, for people."""
        here = (
            f"{self.schedule} ({self.blocks} blocks): FID {self.measured_fid:.3g} measured, "
            f"{self.predicted_fid:.3g} +- {self.predicted_fid * self.predicted_sd:.2g} predicted"
        )
        if self.best == self.schedule:
            return f"{here}; the surrogate knows no better schedule at this cost."
        there = (
            f"the best at this cost, {self.best}, is predicted at "
            f"{self.best_fid:.3g} +- {self.best_fid * self.best_sd:.2g}"
        )
        gap = max(0.0, self.gap)
        share = f"{math.expm1(gap):.1%} +- {math.exp(gap) * self.gap_sd:.1%}"
        if self.gap > CERTAIN * self.gap_sd:
            return f"{here}; {there}: {share} above the optimum, so there is more to gain."
        return f"{here}; {there}: {share} above it, no certain gap."


def certify(
    surrogate: Surrogate,
    weights: Sequence[int],
    schedules: Sequence[ExitSchedule],
    fids: Sequence[float],
) -> list[Certificate]:
    """Certificates of measured schedules, in their order.

    Args:
        surrogate: Fitted to all trials.
        weights: Network calls per interval, data -> noise.
        schedules: Members of the surrogate's space, such as the front.
        fids: What was measured for them.
    """
    _, costs = surrogate.table()
    found = []
    for schedule, fid in zip(schedules, fids, strict=True):
        blocks = schedule.num_blocks(weights)
        best = best_between(costs, surrogate.space, weights, 0, blocks)
        assert best is not None  # the schedule itself lies in the range
        mean, cov = surrogate.predict([schedule, best])
        if mean[1] >= mean[0]:  # by the interaction, which dynamic programming cannot see
            best = schedule
            mean, cov = surrogate.predict([schedule, schedule])
        variance = cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
        found.append(
            Certificate(
                schedule=schedule,
                blocks=blocks,
                measured_fid=float(fid),
                predicted_fid=math.exp(mean[0]),
                predicted_sd=math.sqrt(max(0.0, cov[0, 0])),
                best=best,
                best_blocks=best.num_blocks(weights),
                best_fid=math.exp(mean[1]),
                best_sd=math.sqrt(max(0.0, cov[1, 1])),
                gap=float(mean[0] - mean[1]),
                gap_sd=math.sqrt(max(0.0, variance)),
            )
        )
    return found
