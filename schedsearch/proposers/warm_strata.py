"""Strata of latency just below the warm starts, which a search is meant to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from schedsearch.schedules.exit_schedule import ExitSchedule

SURE_TRIES = 4
"""Proposals below a warm start that keep the whole margin; later ones keep half of it.

A block costs FID, on the digits 0.006 between D7 and D4, a fourth of what the best rivals are
better. But of 32 contenders just one block of a solver run below a preset 3 were measured as
slower (two runs of 100 trials), and with a handful of proposals that can be the best of them: a
run of 24 trials that kept half of the margin from the start lost to D7 so.
"""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A range of block counts to propose from."""

    low: int
    high: int
    num_tried: int
    """Proposals that lie in it."""
    gain: float
    """log FID of the warm start above it, less that of the best proposal at its cost."""


def strata_below_warm_starts(
    trials: Sequence[FrozenTrial],
    weights: Sequence[int],
    *,
    reachable: tuple[int, int],
    width: float,
    margin: Callable[[int], float],
) -> list[Stratum]:
    """One stratum per warm start, with what was found there so far.

    Args:
        trials: All trials of the study; warm starts carry a ``label``.
        weights: Network calls of the solver per interval, data -> noise.
        reachable: Block counts of the shallowest and the deepest schedule; a warm start that
            no schedule undercuts gets no stratum, and full depth none either.
        width: Width of a stratum in blocks.
        margin: How many blocks a stratum stays below a warm start with so many blocks, and half
            as many once :data:`SURE_TRIES` proposals lie below it.
    """
    shallowest, deepest = reachable
    fids: dict[int, float] = {}  # of the warm starts, by block count
    searched: list[tuple[int, float]] = []
    for trial in trials:
        if (schedule := depths_of(trial)) is None:
            continue
        blocks = schedule.num_blocks(weights)
        log_fid = float(np.log(trial.values[0])) if is_measured(trial) else np.inf
        if not trial.user_attrs.get("label"):
            searched.append((blocks, log_fid))
        elif blocks < deepest:
            fids[blocks] = min(log_fid, fids.get(blocks, np.inf))
    strata = []
    for blocks, fid in fids.items():
        high = int(blocks - margin(blocks))
        if high < shallowest:
            continue
        low = high - round(width)
        num_tried = sum(low <= b < blocks for b, _ in searched)
        if num_tried >= SURE_TRIES:
            high = int(blocks - margin(blocks) / 2)
        best = min((f for b, f in searched if b <= high), default=np.inf)
        strata.append(
            Stratum(
                low,
                high,
                num_tried=num_tried,
                gain=fid - best if np.isfinite(fid) and np.isfinite(best) else 0.0,
            )
        )
    return strata


def depths_of(trial: FrozenTrial) -> ExitSchedule | None:
    """The schedule of a trial, or None before the study has noted it."""
    depths = trial.user_attrs.get("depths")
    return None if depths is None else ExitSchedule(tuple(depths))


def is_measured(trial: FrozenTrial) -> bool:
    """Whether a trial has an FID that a logarithm can be taken of."""
    return trial.state is TrialState.COMPLETE and trial.values[0] > 0
