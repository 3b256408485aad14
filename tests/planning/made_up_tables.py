"""Error tables made by hand."""

from collections.abc import Sequence

import numpy as np

from schedsearch.planning.error_table import ErrorTable


def table_of(excess: np.ndarray, depths: Sequence[int]) -> ErrorTable:
    """An error table whose losses lie ``excess`` above 0.3."""
    losses = tuple(tuple(float(v) for v in row) for row in 0.3 + excess)
    return ErrorTable(
        depths=tuple(depths),
        losses=losses,
        standard_errors=tuple((0.0,) * len(depths) for _ in losses),
        exits="uniform",
        num_steps=1,
        num_images=1,
        seed=0,
        seconds=0.0,
    )


def noise_easy(num_levels: int, num_intervals: int = 10) -> np.ndarray:
    """Squared share of the missing blocks, cheaper towards the noise."""
    missing = np.linspace(1, 0, num_levels)
    return np.linspace(2, 0.2, num_intervals)[:, None] * missing**2
