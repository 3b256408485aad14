"""Selects the cells of an error table that a search space uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]


def visited_excess(table: ErrorTable, space: SearchSpace, weights: Sequence[int]) -> Floats:
    """Return the loss minus that of the deepest exit, (num_intervals, num_levels).

    Depths between two columns of the table are interpolated. Rows of intervals without network
    calls (weight 0) are zero.

    Args:
        table: The error table.
        space: The space of schedules; column j of the result is depth ``min_depth + j``.
        weights: Network calls per interval, from data to noise.

    Raises:
        ValueError: If the table does not cover the space.
    """
    if table.num_intervals != space.num_intervals or not (
        table.depths[0] <= space.min_depth and space.max_depth <= table.depths[-1]
    ):
        raise ValueError(
            f"An error table of {table.num_intervals} intervals and depths {table.depths[0]} to "
            f"{table.depths[-1]} does not cover a space of {space.num_intervals} intervals and "
            f"depths {space.min_depth} to {space.max_depth}; measure it for this space."
        )
    levels = np.arange(space.min_depth, space.max_depth + 1)
    losses = np.array([np.interp(levels, table.depths, row) for row in table.losses])
    excess: Floats = losses - losses[:, -1:]
    excess[np.array(weights) == 0] = 0.0
    return excess
