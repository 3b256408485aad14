"""The default proposer: the schedule with the largest expected hypervolume gain.

Log FID is approximately a sum over the intervals. So a draw from the surrogate is a cost table,
and dynamic programming finds its exact front.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray

from schedsearch.pareto import REFERENCE, Point, non_dominated
from schedsearch.planning.dynamic_programming import Plan, optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.prior import prior_table
from schedsearch.planning.prior_choice import PriorChoice, choose_prior
from schedsearch.planning.surrogate import (
    Surrogate,
    clipped_log_fids,
    levels_of,
    nearest_front,
)
from schedsearch.proposers.gains import chances_on_front, hypervolume_gains
from schedsearch.proposers.history import History
from schedsearch.proposers.stratified import StratifiedSampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]

MAX_OPTIMA = 120
"""Largest number of optima per table; on longer fronts neighbours hardly differ."""

MIN_TRIALS = 2
"""Results that the surrogate needs, for a level and a slope."""

CHOOSE_ALWAYS, GROWTH = 200, 1.1
"""Every proposal chooses hyperparameters up to the first number of results. Then they are chosen
whenever the results have grown by the factor."""

WORKERS_PER_SHARE = 16
"""A fit serves one proposal per this many running trials, at least one."""

MAX_RUNNING = 120
"""Running schedules that count as known points; of more, the ones nearest the front."""


class AdditiveSampler(StratifiedSampler):
    """Thompson sampling of whole fronts.

    A proposal fits the surrogate to the results and draws one cost table. Among the optima of
    this table and the mean table, the schedule that adds most hypervolume to the measured front
    comes next. With many workers, one fit serves several proposals. With fewer than two results,
    it is the prior's optimum of the next latency stratum.

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
        self._study: optuna.Study | None = None
        self._history = History(space, weights)
        self._prior_plan: Plan | None = None
        self._choice: tuple[int, PriorChoice] | None = None
        self._ready: list[ExitSchedule] = []

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """Choose the schedule to measure next."""
        # Read the results.
        if study is not self._study:
            self._study, self._history, self._ready = study, self._new_history(), []
        history = self._history
        history.read(study.get_trials(deepcopy=False))
        # Start from the prior.
        if history.num_measured < MIN_TRIALS:
            if self._prior_plan is None:
                costs = prior_table(self._space, self._weights, self._error_table)
                self._prior_plan = Plan(costs, self._space, self._weights)
            return self._best(self._prior_plan, 0, history.taken, rng)
        # Share a fit.
        count = max(1, len(history.running) // WORKERS_PER_SHARE)
        ready = [s for s in self._ready if history.key(s) not in history.taken]
        if count == 1 or not ready:
            ready = self._propose(count, rng)
        self._ready = ready[1:]
        return ready[0]

    def _new_history(self) -> History:
        return History(self._space, self._weights)

    def _propose(self, count: int, rng: np.random.Generator) -> list[ExitSchedule]:
        """Choose the next schedules with one fit."""
        history, known = self._history, self._history.measured()
        surrogate = Surrogate.fit(
            self._space,
            self._weights,
            list(known),
            list(known.values()),
            self._error_table,
            self._prior_choice(known),
        )
        found = self._most_gainful(surrogate, known, count, rng)
        if len(found) < count:  # the optima are measured already: take the best of strata
            plan = Plan(surrogate.table()[1], self._space, self._weights)
            taken = history.taken | {history.key(schedule) for schedule in found}
            while len(found) < count:
                found.append(self._best(plan, len(found), taken, rng))
                taken.add(history.key(found[-1]))
        return found

    def _prior_choice(self, known: Mapping[ExitSchedule, float]) -> PriorChoice | None:
        """Return the hyperparameters, chosen from the results up to the last step of growth.

        The steps depend on the number of results only, so a resumed study chooses the same.
        """
        if len(known) <= CHOOSE_ALWAYS:
            return None
        steps = math.floor(math.log(len(known) / CHOOSE_ALWAYS) / math.log(GROWTH))
        number = math.floor(CHOOSE_ALWAYS * GROWTH**steps)
        if self._choice is None or self._choice[0] != number:
            first = dict(itertools.islice(known.items(), number))
            log_fids = clipped_log_fids(list(first.values()), len(first))
            levels = levels_of(self._space, list(first))
            chosen = choose_prior(
                self._space, self._weights, levels, log_fids - log_fids.min(), self._error_table
            )
            self._choice = number, chosen
        return self._choice[1]

    def _most_gainful(
        self,
        surrogate: Surrogate,
        known: Mapping[ExitSchedule, float],
        count: int,
        rng: np.random.Generator,
    ) -> list[ExitSchedule]:
        """Return schedules that add most hypervolume, one after the other, at most ``count``."""
        # Find new optima.
        history = self._history
        draws = [surrogate.table(rng)[1] for _ in range(math.ceil(count / WORKERS_PER_SHARE))]
        mean = surrogate.table()[1]
        optima = dict.fromkeys(s for costs in (*draws, mean) for s in self._optima(costs))
        new = [schedule for schedule in optima if history.key(schedule) not in history.taken]
        if not new:
            return []

        # Collect known points.
        measured = [(fid, float(s.num_blocks(self._weights))) for s, fid in known.items()]
        front = non_dominated(measured)
        # NOTE: Running schedules count, or two workers would propose the same gain; failed ones
        # do not. Measured ones count with their drawn FID: a lucky FID would hide neighbours.
        schedules = list(known)
        running = self._competitors([s for s in history.running if s not in known], mean)
        others = [schedules[i] for i in front] + running

        # Draw FIDs jointly.
        ends = self._ends()
        schedules = [*ends, *new, *others]
        fids = np.exp(surrogate.draw(schedules, rng))
        points = np.column_stack([fids, [s.num_blocks(self._weights) for s in schedules]])
        # Compare the gains.
        candidates, points = points[len(ends) :][: len(new)], points[len(ends) + len(new) :]
        reference = self._reference(full_fid=fids[0], shallow_fid=fids[1])
        reported = np.array([measured[i] for i in front])
        chances = chances_on_front(reported, candidates, surrogate.noise)
        chosen: list[ExitSchedule] = []
        while len(chosen) < count:
            gains = hypervolume_gains(points, candidates, reference) * chances
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            chosen.append(new[best])
            points = np.vstack([points, candidates[best]])
        return chosen

    def _competitors(self, running: list[ExitSchedule], costs: Floats) -> list[ExitSchedule]:
        """Return the running schedules that a candidate competes with."""
        if len(running) <= MAX_RUNNING:
            return running
        levels = levels_of(self._space, running)
        values = costs[np.arange(self._space.num_intervals), levels].sum(axis=1)
        places = nearest_front(levels @ np.array(self._weights), values)[:MAX_RUNNING]
        return [running[place] for place in sorted(places)]

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
        self, plan: Plan, ahead: int, taken: set[tuple[int, ...]], rng: np.random.Generator
    ) -> ExitSchedule:
        """Return the best new schedule of a stratum; lower its end while none is new.

        Args:
            plan: The plan of a cost table.
            ahead: Place of the stratum, counted from the next one.
            taken: Keys of the schedules that are not new.
            rng: For the case that none is new.
        """
        low, high = self.stratum(self._history.num_drawn + ahead)
        while high >= self.shallowest:
            found = plan.best_between(low, high, taken)
            if found is not None:
                return found
            if low <= 0:
                break
            low -= max(1, (high - low) // 2)
        return self._space.sample(rng)  # NOTE: the study answers a duplicate at no cost
