"""Non-dominated points and hypervolume for two minimised objectives.

Optuna's hypervolume is private and raises for points beyond the reference; with two
objectives a sort and a cumulative minimum are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Point = tuple[float, float]

REFERENCE: Point = (3.0, 1.01)
"""Reference point of the hypervolume: multiples of full depth's FID and latency."""


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other point dominates, by the second objective.

    A point dominates another when it is no worse in both objectives and better in one. Of
    equal points the first is kept; points with a value that is not finite never belong.
    """
    order = sorted(
        (i for i, point in enumerate(points) if all(map(math.isfinite, point))),
        key=lambda i: (points[i][1], points[i][0], i),
    )
    front, best = [], math.inf
    for i in order:
        if points[i][0] < best:
            best = points[i][0]
            front.append(i)
    return front


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """Area that the points dominate, bounded by ``reference``.

    Points that do not strictly dominate the reference add nothing.
    """
    inside = [p for p in points if p[0] < reference[0] and p[1] < reference[1]]
    area, ceiling = 0.0, reference[0]
    for i in non_dominated(inside):
        first, second = inside[i]
        area += (ceiling - first) * (reference[1] - second)
        ceiling = first
    return area


def knee(points: Sequence[Point]) -> int:
    """Index of the point farthest below the line between the front's two ends.

    Both objectives are scaled to [0, 1] over the points first. With fewer than three points
    the cheapest one is returned.

    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError("The knee of an empty front is undefined.")
    order = sorted(range(len(points)), key=lambda i: (points[i][1], points[i][0]))
    if len(points) < 3:
        return order[0]
    lows = [min(p[k] for p in points) for k in (0, 1)]
    spans = [(max(p[k] for p in points) - lows[k]) or 1.0 for k in (0, 1)]
    # With both axes in [0, 1] the ends lie on x + y = 1, so the distance is 1 - x - y.
    return max(order, key=lambda i: 1.0 - sum((points[i][k] - lows[k]) / spans[k] for k in (0, 1)))


def hypervolume_in_box(points: Sequence[Point], full: Point | None) -> float | None:
    """Hypervolume as a share of the box up to :data:`REFERENCE`, in [0, 1].

    Args:
        points: (FID, latency) of schedules.
        full: The same of full depth, which sets the units; None gives None.
    """
    if full is None or not (full[0] > 0 and full[1] > 0):
        return None
    scaled = [(fid / full[0], latency / full[1]) for fid, latency in points]
    return hypervolume(scaled, REFERENCE) / (REFERENCE[0] * REFERENCE[1])
