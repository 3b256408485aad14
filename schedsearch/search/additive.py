"""The default proposer: a small additive model of FID, learned from the trials so far.

What a schedule costs in quality is, to a good approximation, a sum over the intervals of what
the missing blocks cost there, and the first missing blocks of an interval cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from schedsearch.schedule import ExitSchedule
from schedsearch.search.samplers import StratifiedSampler
from schedsearch.space import SearchSpace

Floats = NDArray[np.float64]
Depths = tuple[int, ...]

NOISE_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Standard deviations of log FID that the model chooses from."""

PRIOR_SHAPE = (1.8, 0.2)
"""Prior weights of the first and of the last interval, relative to their mean.

No paper gives them. We chose them, and the two constants below, by replaying searches on
measurements of the digits space, so results on that space flatter them.
"""

SPREAD = 0.5
"""Share of the posterior's spread that the first proposal in a stratum explores; proposal k
takes 1 / (1 + k)^2 of it, since a dozen trials are soon used up.
"""

GAIN_PER_TRIAL = 0.01
"""Gain in log FID over a warm start that counts as much as one more proposal below it."""

COVER_EVERY = 3
"""Proposals per warm start from one stratum anywhere on the trade-off to the next."""

MIN_TRIALS = 4
"""Results that the model needs before it proposes anything."""

_INTERCEPT_SD = 10.0
_NUM_STARTS = 50


@dataclass(frozen=True, slots=True)
class AdditiveModel:
    """Posterior of ``log FID = c + sum_i w_i ((D - d_i) / (D - d_min))^2``.

    A Bayesian linear regression. The prior says what ASE found (Fig. 1): a missing block costs
    less towards the noise. Its weights fall linearly from the data to the noise, each give or
    take itself; their size comes from the trials, and the noise level is the one with the
    highest evidence.
    """

    mean: Floats
    """(1 + n,): c, then one weight per interval."""
    cov: Floats
    """(1 + n, 1 + n)"""

    @classmethod
    def fit(cls, features: Floats, log_fids: Floats) -> AdditiveModel:
        """Fit to schedules, (N, n) features, and the logarithms of their FIDs, (N,)."""
        design = np.column_stack([np.ones(len(features)), features])  # (N, 1 + n)
        shape = np.linspace(*PRIOR_SHAPE, features.shape[1])
        pooled = np.column_stack([np.ones(len(features)), features @ shape])
        slope = max(float(np.linalg.lstsq(pooled, log_fids, rcond=None)[0][1]), 1e-3)
        prior_mean = np.concatenate([[log_fids.min()], slope * shape])
        prior_var = np.concatenate([[_INTERCEPT_SD**2], (slope * shape) ** 2])
        residual = log_fids - design @ prior_mean
        marginal = (design * prior_var) @ design.T  # (N, N), without the noise

        def evidence(noise: float) -> float:
            cov = marginal + noise**2 * np.eye(len(residual))
            _, log_det = np.linalg.slogdet(cov)
            return -0.5 * (float(log_det) + float(residual @ np.linalg.solve(cov, residual)))

        noise = max(NOISE_LEVELS, key=evidence)
        precision = design.T @ design / noise**2 + np.diag(1.0 / prior_var)
        cov = np.linalg.inv(precision)
        mean = prior_mean + cov @ design.T @ residual / noise**2
        return cls(mean, (cov + cov.T) / 2)

    def draw(self, rng: np.random.Generator, spread: float = 1.0) -> Floats:
        """Weights of the intervals, (n,), drawn from the posterior.

        Args:
            rng: Source of randomness.
            spread: Factor on the posterior's standard deviations.
        """
        cov = spread**2 * self.cov
        return rng.multivariate_normal(self.mean, cov, method="eigh")[1:]


class AdditiveSampler(StratifiedSampler):
    """Latency-stratified Thompson sampling on an additive model.

    Users ask what they get for a latency they can afford, and hand-made schedules are the
    answer to beat: most strata end just below the block count of a warm start, first each in
    turn, then where the search gains least, and now and then one lies anywhere on the
    trade-off. In a stratum, the schedule is proposed that is best under weights drawn from the
    model's posterior, so that intervals of uncertain value are tried out.

    Args:
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, data -> noise.
        fixed_blocks: What a solver run costs besides the exit blocks, in blocks: embeddings,
            and in a U-ViT the encoder.
        margin: Share of its latency by which a stratum stays below a warm start: measured
            latencies of equal block counts differ by half a percent, and only a schedule that
            is no slower counts.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        weights: Sequence[int],
        *,
        fixed_blocks: float = 0.0,
        margin: float = 0.01,
    ) -> None:
        super().__init__(space, seed, weights)
        self._fixed_blocks = fixed_blocks
        self._margin = margin

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """The best schedule of the next stratum under weights from the posterior."""
        trials = study.get_trials(deepcopy=False)
        stratum = self._next_stratum(trials, self.num_drawn(study))
        known = {
            depths: trial.values[0]
            for trial in trials
            if trial.state is TrialState.COMPLETE
            and (depths := _depths(trial)) is not None
            and trial.values[0] > 0
        }
        if len(known) < MIN_TRIALS:
            return self.draw_between(stratum.low, stratum.high, rng)
        model = AdditiveModel.fit(
            self._features(list(known)), np.log(np.fromiter(known.values(), dtype=float))
        )
        taken = {depths for trial in trials if (depths := _depths(trial)) is not None}
        spread = SPREAD / (1 + stratum.num_tried) ** 2
        return self._best(model.draw(rng, spread), stratum, taken, rng)

    def _next_stratum(self, trials: Sequence[FrozenTrial], drawn: int) -> _Stratum:
        """Below the warm start that the search beats least so far, or a covering one."""
        strata = self._strata_below_warm_starts(trials)
        turn, place = divmod(drawn, 1 + COVER_EVERY * max(1, len(strata)))
        if not strata or place == len(strata):
            low, high = self.stratum(turn if strata else drawn)
            return _Stratum(low, high, num_tried=turn, gain=0.0)
        return min(strata, key=lambda s: (s.gain + GAIN_PER_TRIAL * s.num_tried, s.high))

    def _strata_below_warm_starts(self, trials: Sequence[FrozenTrial]) -> list[_Stratum]:
        """One stratum per warm start, with what was found there so far."""
        fids: dict[int, float] = {}  # of the warm starts, by block count
        searched: list[tuple[int, float]] = []
        for trial in trials:
            if (depths := _depths(trial)) is None:
                continue
            blocks = self.blocks(depths)
            done = trial.state is TrialState.COMPLETE and trial.values[0] > 0
            log_fid = float(np.log(trial.values[0])) if done else np.inf
            if not trial.user_attrs.get("label"):
                searched.append((blocks, log_fid))
            elif blocks < self.deepest:
                fids[blocks] = min(log_fid, fids.get(blocks, np.inf))
        strata = []
        for blocks, fid in fids.items():
            high = int(blocks - self._margin * (blocks + self._fixed_blocks))
            low = high - round(self.width_blocks / 2)
            best = min((f for b, f in searched if b <= high), default=np.inf)
            strata.append(
                _Stratum(
                    low,
                    high,
                    num_tried=sum(low <= b <= high for b, _ in searched),
                    gain=fid - best if np.isfinite(fid) and np.isfinite(best) else 0.0,
                )
            )
        return strata

    def _features(self, depths: Sequence[Depths]) -> Floats:
        """Squared share of the blocks that each interval leaves out, (N, n)."""
        span = max(1, self._space.max_depth - self._space.min_depth)
        dropped: Floats = (self._space.max_depth - np.array(depths, dtype=float)) / span
        return dropped**2

    def _best(
        self, weights: Floats, stratum: _Stratum, taken: set[Depths], rng: np.random.Generator
    ) -> ExitSchedule:
        """Hill climbing from uniform draws of the stratum; never a schedule that was tried.

        A move adds a block to one interval, takes one from another, or both.
        """
        low, high = stratum.low, stratum.high

        def cost(schedule: ExitSchedule) -> float:
            return float((self._features([schedule.depths]) @ weights)[0])

        def climb(schedule: ExitSchedule) -> ExitSchedule:
            while True:
                near = self._space.neighbours(schedule)
                near += [far for step in near for far in self._space.neighbours(step)]
                inside = [n for n in near if low <= self.blocks(n.depths) <= high]
                best = min(inside, key=cost, default=schedule)
                if cost(best) >= cost(schedule) - 1e-12:
                    return schedule
                schedule = best

        starts = {self.draw_between(low, high, rng) for _ in range(_NUM_STARTS)}
        top = climb(min(starts, key=cost))
        around = {top, *self._space.neighbours(top), *starts}
        around |= {
            far for near in self._space.neighbours(top) for far in self._space.neighbours(near)
        }
        fresh = [
            schedule
            for schedule in around
            if schedule.depths not in taken and low <= self.blocks(schedule.depths) <= high
        ]
        # The study answers a duplicate at no cost and asks again.
        return min(fresh, key=lambda s: (cost(s), s.depths), default=top)


@dataclass(frozen=True, slots=True)
class _Stratum:
    """A range of block counts to propose from."""

    low: int
    high: int
    num_tried: int
    """Proposals that lie in it."""
    gain: float
    """log FID of the warm start above it, less that of the best proposal at its cost."""


def _depths(trial: FrozenTrial) -> Depths | None:
    depths = trial.user_attrs.get("depths")
    return None if depths is None else tuple(depths)
