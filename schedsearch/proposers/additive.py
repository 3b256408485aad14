"""The default proposer: exact optima of a surrogate that is fitted again after every trial.

What a schedule costs in quality is, to a good approximation, a sum over the intervals. So draws
from the surrogate's posterior are tables, dynamic programming gives the whole front of each, and
the optimum that the whole surrogate thinks most of, given the doubt about it, is measured next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from schedsearch.pareto import non_dominated
from schedsearch.planning.dynamic_programming import PlannedSchedule, best_between, optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.prior import prior_table
from schedsearch.planning.surrogate import Surrogate
from schedsearch.proposers.gains import chances_of_being_reported, hypervolume_gains
from schedsearch.proposers.stratified import StratifiedSampler
from schedsearch.proposers.warm_strata import (
    Stratum,
    depths_of,
    is_measured,
    strata_below_warm_starts,
)
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]

NUM_DRAWS = 16
"""Tables whose optima just below a warm start are compared, besides the mean table."""

OPTIMISM = 2.0
"""Standard deviations by which the compared optima are taken to be better than expected: optima of
a fitted table are too good to be true, and the surest of them teach least. In 40 worlds drawn from
129 measured schedules of the digits (``benchmarks/drawn_worlds.py``) 24 trials beat the four warm
starts by 0.021 +- 0.003 FID on average, and by 0.009 +- 0.002 with one drawn table, uncompared. In
worlds drawn from 162 schedules it was 0.035, 0.028, 0.023 and 0.024 for 2, 1, 0.5 and 0.
"""

GAIN_PER_TRIAL = 0.01
"""Gain in log FID over a warm start that counts as much as one more proposal below it."""

COVER_EVERY = 3
"""Every so many proposals one is for the whole trade-off, whatever the warm starts need. In
replays with four warm starts, 1 in 2 instead of 1 in 13 found 4 points more of the hypervolume,
and beat the warm starts as clearly; on the digits a dozen proposals were too few for 1 in 2.
"""

MAX_OPTIMA = 120
"""Optima per table that are compared; neighbours on a longer front differ by less than a percent
of latency.
"""

MIN_TRIALS = 2
"""Results that the surrogate needs: a level and a slope."""

REFERENCE = (3.0, 1.01)
"""Of the hypervolume: multiples of full depth's FID and latency, as in the run's own result."""


class AdditiveSampler(StratifiedSampler):
    """Thompson sampling of whole fronts, and strata just below the warm starts.

    Each proposal fits the surrogate to what was measured and draws one table from it. Users ask
    what they get for a latency they can afford, and hand-made schedules are the answer to beat:
    where there are warm starts, two of three proposals are the table's optimum just below one of
    them, first each in turn, then where the search gains least. The others are the member of
    the table's exact front that adds most hypervolume to the schedules known, which spreads
    trials over the whole trade-off and tries out what is uncertain. Below a warm start the optima
    of several tables are compared by a lower confidence bound of the whole surrogate, which knows
    that contributions do not quite add up. Moves around the measured front (exchanges of blocks
    that the surrogate likes) were worse than that in replays, so there are none.

    Args:
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, data -> noise.
        fixed_blocks: What a solver run costs besides the exit blocks, in blocks: embeddings,
            and in a U-ViT the encoder.
        margin: Share of its latency by which a stratum stays below a warm start: measured
            latencies of equal block counts differ by half a percent, and only a schedule that
            is no slower counts. Half of it once a stratum was tried often enough.
        error_table: The prior of the surrogate, if there is one.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        weights: Sequence[int],
        *,
        fixed_blocks: float = 0.0,
        margin: float = 0.01,
        error_table: ErrorTable | None = None,
    ) -> None:
        super().__init__(space, seed, weights)
        self._fixed_blocks = fixed_blocks
        self._margin = margin
        self._error_table = error_table

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """The schedule to measure next."""
        trials = study.get_trials(deepcopy=False)
        asked = dict.fromkeys(s for trial in trials if (s := depths_of(trial)) is not None)
        known = {
            depths: float(trial.values[0])
            for trial in trials
            if (depths := depths_of(trial)) is not None and is_measured(trial)
        }
        drawn = self.num_drawn(study)
        stratum = self._next_stratum(trials, drawn)
        if len(known) < MIN_TRIALS:
            low, high = (stratum.low, stratum.high) if stratum else self.stratum(drawn)
            costs = prior_table(self._space, self._weights, self._error_table)
            return self._best(costs, low, high, asked, rng)
        surrogate = Surrogate.fit(
            self._space, self._weights, list(known), list(known.values()), self._error_table
        )
        if stratum is not None:
            return self._most_promising(surrogate, stratum, known, asked, rng)
        return self._most_gainful(surrogate, known, asked, rng) or self._best(
            surrogate.table()[1], *self.stratum(drawn), asked, rng
        )

    def _most_promising(
        self,
        surrogate: Surrogate,
        stratum: Stratum,
        known: Collection[ExitSchedule],
        asked: Collection[ExitSchedule],
        rng: np.random.Generator,
    ) -> ExitSchedule:
        """The optimum of a table, in a stratum, whose log FID has the lowest confidence bound."""
        tables = [surrogate.table()[1]]
        tables += [surrogate.table(rng)[1] for _ in range(NUM_DRAWS)]
        optima = dict.fromkeys(
            self._best(costs, stratum.low, stratum.high, asked, rng) for costs in tables
        )
        running = [schedule for schedule in asked if schedule not in known]
        bounds = surrogate.lower_bounds(list(optima), OPTIMISM, running)
        return list(optima)[int(bounds.argmin())]

    def _most_gainful(
        self,
        surrogate: Surrogate,
        known: Mapping[ExitSchedule, float],
        asked: Collection[ExitSchedule],
        rng: np.random.Generator,
    ) -> ExitSchedule | None:
        """What promises most hypervolume under a draw, or None when nothing new adds any.

        The schedules that a result would report count with what the draw gives them, since a
        lucky FID would hide its neighbourhood; so do those that still run, so that workers do
        not propose the same gain twice. A gain counts as often as the measured FID would be
        low enough to be reported, too.
        """
        tables = [surrogate.table(rng)[1], surrogate.table()[1]]
        optima = [
            planned.schedule
            for costs in tables
            for planned in self._thinned(optimal_front(costs, self._space, self._weights))
        ]
        taken = {self._key(schedule) for schedule in asked}
        new = [s for s in dict.fromkeys(optima) if self._key(s) not in taken]
        if not new:
            return None
        measured = [(fid, float(self.blocks(s.depths))) for s, fid in known.items()]
        reported = non_dominated(measured)
        on_front = [list(known)[i] for i in reported]
        running = [schedule for schedule in asked if schedule not in known]
        ends = [
            ExitSchedule.flat(depth, self._space.num_intervals)
            for depth in (self._space.max_depth, self._space.min_depth)
        ]
        schedules = [*ends, *new, *on_front, *running]
        log_fids = surrogate.draw(schedules, rng)
        points = np.column_stack([np.exp(log_fids), [self.blocks(s.depths) for s in schedules]])
        (full_fid, _), (shallow_fid, _) = points[:2]
        latency = REFERENCE[1] * (self.deepest + self._fixed_blocks) - self._fixed_blocks
        reference = (min(shallow_fid, REFERENCE[0] * full_fid), latency)
        candidates, others = points[2 : 2 + len(new)], points[2 + len(new) :]
        gains = hypervolume_gains(others, candidates, reference)
        gains *= chances_of_being_reported(
            np.array([measured[i] for i in reported]), candidates, surrogate.noise
        )
        return new[int(gains.argmax())] if gains.max() > 0 else None

    @staticmethod
    def _thinned(front: list[PlannedSchedule]) -> list[PlannedSchedule]:
        """At most :data:`MAX_OPTIMA` members of a front, evenly spread."""
        places = np.linspace(0, len(front) - 1, min(len(front), MAX_OPTIMA))
        return [front[int(place)] for place in places.round()]

    def _best(
        self,
        costs: Floats,
        low: int,
        high: int,
        asked: Collection[ExitSchedule],
        rng: np.random.Generator,
    ) -> ExitSchedule:
        """The table's best new schedule of a stratum, which grows downwards while it is full."""
        while high >= self.shallowest:
            found = best_between(costs, self._space, self._weights, low, high, asked)
            if found is not None:
                return found
            if low <= 0:
                break
            low -= max(1, (high - low) // 2)
        return self._space.sample(rng)  # a duplicate perhaps; the study answers it and asks again

    def _key(self, schedule: ExitSchedule) -> tuple[int, ...]:
        """The depths where the solver calls the network: equal keys are one schedule."""
        pairs = zip(schedule.depths, self._weights, strict=True)
        return tuple(depth for depth, weight in pairs if weight)

    def _next_stratum(self, trials: Sequence[FrozenTrial], drawn: int) -> Stratum | None:
        """Below the warm start that the search beats least so far; None for all latencies."""
        if drawn % COVER_EVERY == 0:
            return None
        strata = strata_below_warm_starts(
            trials,
            self._weights,
            reachable=(self.shallowest, self.deepest),
            width=self.width_blocks / 2,
            margin=lambda blocks: self._margin * (blocks + self._fixed_blocks),
        )
        return min(
            strata,
            key=lambda s: (s.num_tried > 0, s.gain + GAIN_PER_TRIAL * s.num_tried, s.high),
            default=None,
        )
