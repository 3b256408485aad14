"""Gain in hypervolume of single points, and their chance to be on the measured front."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from schedsearch.pareto import Point, non_dominated

Floats = NDArray[np.float64]


def hypervolume_gains(points: Floats, candidates: Floats, reference: Point) -> Floats:
    """Hypervolume that each candidate alone would add, (M,).

    Args:
        points: (quality, cost) of known points, both minimised, (N, 2); N may be 0.
        candidates: The same of the candidates, (M, 2).
        reference: Bounds the hypervolume.
    """
    quality, cost = reference
    front = points[non_dominated([(float(q), float(c)) for q, c in points])].reshape(-1, 2)
    # NOTE: between two neighbours of the front, the cheaper one sets the quality to beat.
    starts = np.concatenate([[-np.inf], front[:, 1]])
    stops = np.minimum(np.concatenate([front[:, 1], [np.inf]]), cost)
    ceilings = np.minimum(np.concatenate([[np.inf], front[:, 0]]), quality)
    widths = np.clip(stops - np.maximum(starts, candidates[:, 1:]), 0.0, None)  # (M, N + 1)
    heights = np.clip(ceilings - candidates[:, :1], 0.0, None)
    gains: Floats = (widths * heights).sum(axis=1)
    return gains


def chances_on_front(front: Floats, candidates: Floats, noise: float) -> Floats:
    """Probability that a candidate will be on the measured front, (M,).

    It must be measured below everything that costs no more. So a cheap point with a lucky
    measurement keeps dearer ones out, however good they are.

    Args:
        front: (measured quality > 0, cost) of the front, (N, 2).
        candidates: (expected quality > 0, cost), (M, 2).
        noise: Standard deviation of the logarithm of a measured quality.
    """
    chances = np.ones(len(candidates))
    for i, (quality, cost) in enumerate(candidates):
        cheaper = front[front[:, 1] <= cost, 0]
        if len(cheaper):
            excess = math.log(quality / float(cheaper.min())) / noise
            chances[i] = math.erfc(excess / math.sqrt(2)) / 2
    return chances
