"""Edges of the intervals into which a schedule cuts the clock [0, 1000]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

Edges = tuple[float, ...]
"""n + 1 rising clock times from 0 to 1000, the ends of n intervals."""

CLOCK_END = 1000.0
"""End of the schedules' clock: 0 is data, 1000 is pure noise."""

MIN_WIDTH = 1.0
"""Least width of an interval, so that each holds a timestep of a discrete process."""


EDGE_SLACK = 2e-4
"""A time this far below an edge counts as on it.

Samplers call the network at edges, up to rounding in float32."""


def equal_edges(num_intervals: int) -> Edges:
    """Return the edges of equal intervals."""
    # NOTE: Multiplied first, because 1000 / 30 is rounded and would move whole timesteps.
    return tuple(CLOCK_END * i / num_intervals for i in range(num_intervals + 1))


def shifted_edges(num_intervals: int, shift: float) -> Edges:
    """Return the edges of equal intervals, moved as a sampler's shift moves its times.

    A shift s maps the share u of the clock to ``s u / (1 + (s - 1) u)`` (SD3, Eq. 23). With 1
    the edges are equal.

    Args:
        num_intervals: Number of intervals.
        shift: The shift s, above 0.
    """
    if shift == 1:
        return equal_edges(num_intervals)
    steps = range(num_intervals + 1)
    # NOTE: With this form of the fraction the last edge is exactly 1000.
    return tuple(CLOCK_END * (shift * i / (shift * i + (num_intervals - i))) for i in steps)


def why_no_edges(edges: Sequence[float], num_intervals: int) -> str | None:
    """Return the first rule that edges break, or None if they break none."""
    if len(edges) != num_intervals + 1:
        return f"{num_intervals} intervals have {num_intervals + 1} edges, got {len(edges)}"
    if not all(math.isfinite(edge) for edge in edges) or (edges[0], edges[-1]) != (0, CLOCK_END):
        return f"edges go from 0 to {CLOCK_END:g}, got {edges[0]:g} to {edges[-1]:g}"
    for low, high in itertools.pairwise(edges):
        if not high - low >= MIN_WIDTH:
            return f"edges rise by at least {MIN_WIDTH:g}, got {high:g} after {low:g}"
    return None


def in_words(edges: Edges | None) -> str:
    """Return the edges as text for people; ``equal`` for None."""
    return "equal" if edges is None else " ".join(f"{edge:.5g}" for edge in edges)
