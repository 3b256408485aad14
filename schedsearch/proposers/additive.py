"""The default proposer: the schedule with the largest expected hypervolume gain.

Log FID is approximately a sum over the intervals. So a draw from the surrogate is a cost table,
and dynamic programming finds its exact front.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from schedsearch.pareto import REFERENCE, Point, non_dominated
from schedsearch.planning.dynamic_programming import best_between, optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.prior import prior_table
from schedsearch.planning.surrogate import Surrogate
from schedsearch.proposers.gains import chances_on_front, hypervolume_gains
from schedsearch.proposers.stratified import StratifiedSampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]

MAX_OPTIMA = 120
"""Largest number of optima per table; on longer fronts neighbours hardly differ."""

MIN_TRIALS = 2
"""Results that the surrogate needs, for a level and a slope."""


class AdditiveSampler(StratifiedSampler):
    """Thompson sampling of whole fronts.

    Each proposal fits the surrogate to all results and draws one cost table. Among the optima of
    this table and the mean table, the schedule that adds most hypervolume to the measured front
    comes next. With fewer than two results, it is the prior's optimum of the next latency
    stratum.

    Args:
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, from data to noise.
        fixed_blocks: Cost of a solver run outside the exit blocks, in blocks: embeddings, and
            the encoder of a U-ViT.
        error_table: Prior of the surrogate, if there is one.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        weights: Sequence[int],
        *,
        fixed_blocks: float = 0.0,
        error_table: ErrorTable | None = None,
    ) -> None:
        super().__init__(space, seed, weights)
        self._fixed_blocks = fixed_blocks
        self._error_table = error_table

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """Choose the schedule to measure next."""
        # Collect the results.
        trials = study.get_trials(deepcopy=False)
        asked = dict.fromkeys(s for trial in trials if (s := self._schedule_of(trial)) is not None)
        running = dict.fromkeys(
            schedule
            for trial in trials
            if (schedule := self._schedule_of(trial)) is not None and not trial.state.is_finished()
        )
        known = {
            schedule: float(trial.values[0])
            for trial in trials
            if (schedule := self._schedule_of(trial)) is not None and _is_measured(trial)
        }
        # Start from the prior.
        low, high = self.stratum(self.num_drawn(study))
        if len(known) < MIN_TRIALS:
            costs = prior_table(self._space, self._weights, self._error_table)
            return self._best(costs, low, high, asked, rng)
        # Ask the surrogate.
        surrogate = Surrogate.fit(
            self._space, self._weights, list(known), list(known.values()), self._error_table
        )
        found = self._most_gainful(surrogate, known, running, asked, rng)
        return found or self._best(surrogate.table()[1], low, high, asked, rng)

    def _most_gainful(
        self,
        surrogate: Surrogate,
        known: Mapping[ExitSchedule, float],
        running: Collection[ExitSchedule],
        asked: Collection[ExitSchedule],
        rng: np.random.Generator,
    ) -> ExitSchedule | None:
        """Return the schedule that adds most hypervolume, or None if none adds any."""
        # Find new optima.
        taken = {self._key(schedule) for schedule in asked}
        tables = (surrogate.table(rng)[1], surrogate.table()[1])
        optima = dict.fromkeys(s for costs in tables for s in self._optima(costs))
        new = [schedule for schedule in optima if self._key(schedule) not in taken]
        if not new:
            return None

        # Collect known points.
        measured = [(fid, float(s.num_blocks(self._weights))) for s, fid in known.items()]
        front = non_dominated(measured)
        # NOTE: Running schedules count, or two workers would propose the same gain; failed ones
        # do not. Measured ones count with their drawn FID: a lucky FID would hide neighbours.
        measured_front = [list(known)[i] for i in front]
        others = measured_front + [s for s in running if s not in known]

        # Draw FIDs jointly.
        ends = self._ends()
        schedules = [*ends, *new, *others]
        fids = np.exp(surrogate.draw(schedules, rng))
        points = np.column_stack([fids, [s.num_blocks(self._weights) for s in schedules]])
        # Compare the gains.
        candidates = points[len(ends) : len(ends) + len(new)]
        reference = self._reference(full_fid=fids[0], shallow_fid=fids[1])
        gains = hypervolume_gains(points[len(ends) + len(new) :], candidates, reference)
        reported = np.array([measured[i] for i in front])
        gains *= chances_on_front(reported, candidates, surrogate.noise)
        return new[int(gains.argmax())] if gains.max() > 0 else None

    def _ends(self) -> tuple[ExitSchedule, ExitSchedule]:
        """Return full depth and the shallowest schedule."""
        deep, shallow = self._space.max_depth, self._space.min_depth
        count = self._space.num_intervals
        return self._space.schedule([deep] * count), self._space.schedule([shallow] * count)

    def _reference(self, full_fid: float, shallow_fid: float) -> Point:
        """Return the reference point of the hypervolume, with latency in exit blocks."""
        latency = REFERENCE[1] * (self.deepest + self._fixed_blocks) - self._fixed_blocks
        return min(shallow_fid, REFERENCE[0] * full_fid), latency

    def _optima(self, costs: Floats) -> list[ExitSchedule]:
        """Return the front of a cost table, evenly thinned to :data:`MAX_OPTIMA`."""
        front = optimal_front(costs, self._space, self._weights)
        places = np.linspace(0, len(front) - 1, min(len(front), MAX_OPTIMA))
        return [front[int(place)].schedule for place in places.round()]

    def _best(
        self,
        costs: Floats,
        low: int,
        high: int,
        asked: Collection[ExitSchedule],
        rng: np.random.Generator,
    ) -> ExitSchedule:
        """Return the best new schedule of a stratum; lower its end while none is new."""
        while high >= self.shallowest:
            found = best_between(costs, self._space, self._weights, low, high, asked)
            if found is not None:
                return found
            if low <= 0:
                break
            low -= max(1, (high - low) // 2)
        return self._space.sample(rng)  # NOTE: the study answers a duplicate at no cost

    def _key(self, schedule: ExitSchedule) -> tuple[int, ...]:
        """Return the visited depths; schedules with equal keys give equal samples."""
        pairs = zip(schedule.depths, self._weights, strict=True)
        return tuple(depth for depth, weight in pairs if weight)

    def _schedule_of(self, trial: FrozenTrial) -> ExitSchedule | None:
        """Return the schedule of a trial, or None before the study has set it."""
        depths = trial.user_attrs.get("depths")
        return None if depths is None else self._space.schedule(depths)


def _is_measured(trial: FrozenTrial) -> bool:
    """Whether a trial has a positive FID, as the logarithm needs."""
    return trial.state is TrialState.COMPLETE and trial.values[0] > 0
