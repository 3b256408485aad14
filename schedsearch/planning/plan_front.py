"""Exact Pareto front of sampling plans, for errors and costs that are additive over steps.

A plan chooses for every solver step: a full call, a reuse of a cached residual, or an exit.
Dynamic programming from the last step to the first, with the age of the cache as state, keeps
every Pareto-optimal completion.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedsearch.planning.plan_inputs import Floats, PlanCosts, PlanErrors, StepChoice

Indices = NDArray[np.intp]

_TOLERANCE = 1e-9  # relative; closer costs count as equal, a smaller gain as none
_BINS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSteps:
    """A Pareto-optimal plan."""

    steps: tuple[StepChoice, ...]  # from noise to data
    error: float  # weighted sum over the steps
    ms: float  # of the sampling run


def plan_front(errors: PlanErrors, costs: PlanCosts) -> list[PlannedSteps]:
    """Find every Pareto-optimal (ms, error) over all plans.

    A full step has error 0. The front is exact up to a relative 1e-9 per step: of costs that
    close, the lower error counts. Of plans with equal cost and error, the first in the order
    full, reuse by prefix, exit by depth counts; the first step that differs decides.

    Returns:
        One plan per point of the front, by increasing ms and decreasing error.

    Raises:
        ValueError: If errors and costs do not fit together.
    """
    _check_blocks("Prefixes", errors.prefixes, range(costs.num_blocks))
    _check_blocks("Exit depths", errors.exit_depths, range(1, costs.num_blocks))
    return _Completions(errors, costs).front()


def best_within(front: Sequence[PlannedSteps], max_ms: float) -> PlannedSteps | None:
    """Return the plan of lowest error with ``ms <= max_ms``, or None.

    Like the front, it takes costs that differ by a relative 1e-9 as equal.

    Raises:
        ValueError: If ``max_ms`` is NaN.
    """
    if math.isnan(max_ms):
        raise ValueError(f"The largest cost needs a number, got {max_ms=}.")
    within = bisect_right(front, max_ms * (1 + _TOLERANCE), key=lambda plan: plan.ms)
    return front[within - 1] if within else None


@dataclass(frozen=True, slots=True)
class _Labels:
    """Pareto-optimal completions of a state, by increasing ms."""

    ms: Floats
    error: Floats
    choice: Indices  # at the first step
    following: Indices  # label of the next state


class _Completions:
    """Pareto-optimal completions of every state.

    ``labels[s][age]`` starts at step s, ``age`` steps after the last full step. The age
    ``max_age + 1`` stands for every cache that is missing or too old.
    """

    def __init__(self, errors: PlanErrors, costs: PlanCosts) -> None:
        self.stale = errors.reuse.shape[2] + 1
        self.fixed_ms = costs.fixed_ms
        self.ms = _choice_costs(errors, costs)
        self.errors = _choice_errors(errors)
        self.steps = [
            [StepChoice(kind="full", blocks=costs.num_blocks)]
            + [StepChoice(kind="reuse", blocks=f, age=max(age, 1)) for f in errors.prefixes]
            + [StepChoice(kind="exit", blocks=d) for d in errors.exit_depths]
            for age in range(self.stale + 1)
        ]
        self.labels = self._solve()

    def _solve(self) -> list[dict[int, _Labels]]:
        none, zero = np.zeros(1, dtype=np.intp), np.zeros(1)
        following = dict.fromkeys(range(1, self.stale + 1), _Labels(zero, zero, none, none))
        labels: list[dict[int, _Labels]] = []
        for step in reversed(range(len(self.errors))):
            labels.append({})
            for age in {*range(1, min(step + 1, self.stale)), self.stale}:
                other = following[min(age + 1, self.stale)]
                cell = self.errors[step, age], self.ms[step, age]
                labels[-1][age] = self._extend(*cell, following[1], other)
            following = labels[-1]
        return labels[::-1]

    def _extend(self, errors: Floats, costs: Floats, full: _Labels, other: _Labels) -> _Labels:
        """Prepend every choice of a state to the completions that follow it."""
        # Drop dominated choices.
        choices = 1 + np.flatnonzero(np.isfinite(errors[1:]))
        choices = np.sort(choices[_pareto(costs[choices], errors[choices])])
        # List all candidates.
        ms = np.append(full.ms + costs[0], np.add.outer(costs[choices], other.ms))
        error = np.append(full.error, np.add.outer(errors[choices], other.error))
        # Keep the front.
        kept = _pareto(ms, error)
        row, column = np.divmod(kept - len(full.ms), len(other.ms))
        choice = np.append(choices, 0)[np.maximum(row, -1)]
        return _Labels(ms[kept], error[kept], choice, np.where(row < 0, kept, column))

    def front(self) -> list[PlannedSteps]:
        """Trace the completions of the first step."""
        # Follow all plans at once.
        shape = (len(self.labels[0][self.stale].ms), len(self.labels))
        ages, choices = np.zeros((2, *shape), dtype=np.intp)
        label, age = np.arange(shape[0]), np.full(shape[0], self.stale)
        for step, states in enumerate(self.labels):
            ages[:, step] = age
            for state in np.unique(age).tolist():
                plans = np.flatnonzero(age == state)
                choices[plans, step] = states[state].choice[label[plans]]
                label[plans] = states[state].following[label[plans]]
            age = np.where(choices[:, step] == 0, 1, np.minimum(age + 1, self.stale))
        # Add up errors and costs.
        # NOTE: fsum is exact, so the order of the steps cannot change a cost.
        taken = np.arange(shape[1]), ages, choices
        errors, costs = self.errors[taken].tolist(), self.ms[taken].tolist()
        pairs = zip(ages.tolist(), choices.tolist(), strict=True)
        return [
            PlannedSteps(
                steps=tuple(self.steps[a][c] for a, c in zip(*pair, strict=True)),
                error=math.fsum(error),
                ms=math.fsum([self.fixed_ms, *ms]),
            )
            for pair, error, ms in zip(pairs, errors, costs, strict=True)
        ]


def _choice_errors(errors: PlanErrors) -> Floats:
    """Return weighted errors by step, age and choice; a choice never possible is ``inf``."""
    num_steps, num_prefixes, max_age = errors.reuse.shape
    num_choices = 1 + num_prefixes + len(errors.exit_depths)
    table = np.full((num_steps, max_age + 2, num_choices), np.inf)
    table[:, :, 0] = 0.0
    table[:, 1:-1, 1 : 1 + num_prefixes] = errors.reuse.transpose(0, 2, 1)
    table[:, :, 1 + num_prefixes :] = errors.exits[:, None, :]
    # NOTE: A weight of 0 must not turn an error of inf into NaN.
    np.multiply(table, errors.weights[:, None, None], out=table, where=np.isfinite(table))
    return table


def _choice_costs(errors: PlanErrors, costs: PlanCosts) -> Floats:
    """Return milliseconds by step, age and choice."""
    num_steps, num_prefixes, max_age = errors.reuse.shape
    table = np.full((num_steps, max_age + 2, 1 + num_prefixes + len(errors.exit_depths)), 0.0)
    table[:, :, 0] = costs.full_ms
    reuse = _spread("Costs of reuse", costs.reuse_ms, errors.reuse.shape)
    table[:, 1:-1, 1 : 1 + num_prefixes] = reuse.transpose(0, 2, 1)
    exits = _spread("Costs of exits", costs.exit_ms, errors.exits.shape)
    table[:, :, 1 + num_prefixes :] = exits[:, None, :]
    return table


def _spread(name: str, costs: Floats, shape: tuple[int, ...]) -> Floats:
    try:
        return np.broadcast_to(np.asarray(costs, dtype=np.float64), shape)
    except ValueError as error:
        raise ValueError(f"{name} must fit shape {shape}, got {np.shape(costs)}.") from error


def _pareto(ms: Floats, error: Floats) -> Indices:
    """Return the Pareto-optimal points, by increasing ms; the first of equal points counts."""
    # Drop points worse than a cheaper bin.
    kept = np.arange(len(ms))
    if len(ms) > _BINS:
        bins = (ms / (float(ms.max()) or 1.0) * _BINS).astype(np.intp)
        lowest = np.full(_BINS + 2, np.inf)
        np.minimum.at(lowest, bins + 1, error)
        kept = np.flatnonzero(error < np.minimum.accumulate(lowest)[bins])
    # Keep what lowers the error.
    kept = kept[np.argsort(ms[kept], kind="stable")]
    before = np.concatenate([[np.inf], np.minimum.accumulate(error[kept])[:-1]])
    kept = kept[error[kept] < before * (1 - _TOLERANCE)]
    # Merge equal costs.
    return kept[np.diff(ms[kept], append=np.inf) > _TOLERANCE * ms[kept]]


def _check_blocks(name: str, blocks: Sequence[int], allowed: range) -> None:
    if list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(allowed):
        raise ValueError(
            f"{name} must increase within {allowed.start} to {allowed.stop - 1}, got {blocks}."
        )
