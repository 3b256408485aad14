"""Hypervolume gain of single points, and their probability to be on the front."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from schedsearch.pareto import Point, non_dominated

Floats = NDArray[np.float64]


def hypervolume_gains(points: Floats, candidates: Floats, reference: Point) -> Floats:
    """Compute the hypervolume that each candidate alone would add, (M,).

    Args:
        points: (quality, cost) of known points, both minimised, (N, 2); N may be 0.
        candidates: (quality, cost) of the candidates, (M, 2).
        reference: Reference point of the hypervolume.
    """
    quality, cost = reference
    front = points[non_dominated([(float(q), float(c)) for q, c in points])].reshape(-1, 2)
    # NOTE: Between two neighbours on the front, the cheaper one sets the quality to beat.
    starts = np.concatenate([[-np.inf], front[:, 1]])
    stops = np.minimum(np.concatenate([front[:, 1], [np.inf]]), cost)
    ceilings = np.minimum(np.concatenate([[np.inf], front[:, 0]]), quality)
    widths = np.clip(stops - np.maximum(starts, candidates[:, 1:]), 0.0, None)  # (M, N + 1)
    heights = np.clip(ceilings - candidates[:, :1], 0.0, None)
    gains: Floats = (widths * heights).sum(axis=1)
    return gains


def chances_on_front(front: Floats, candidates: Floats, noise: float) -> Floats:
    """Compute the probability that a candidate joins the measured front, (M,).

    Its measurement must be better than every measurement at the same or lower cost. So one
    lucky measurement at low cost can exclude better candidates at higher cost.

    Args:
        front: (measured quality > 0, cost) of the front, (N, 2).
        candidates: (expected quality > 0, cost), (M, 2).
        noise: Standard deviation of the log of a measured quality.
    """
    chances = np.ones(len(candidates))
    for i, (quality, cost) in enumerate(candidates):
        cheaper = front[front[:, 1] <= cost, 0]
        if len(cheaper):
            excess = math.log(quality / float(cheaper.min())) / noise
            chances[i] = math.erfc(excess / math.sqrt(2)) / 2
    return chances
