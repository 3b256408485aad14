"""A small table whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.schedulebench.tables import Table
from schedsearch.planning.error_table import ErrorTable

LEVELS, WEIGHTS = (2, 5, 9), (1, 2, 2, 2)


def make_table(**changes: object) -> Table:
    """Four intervals, three levels: 15 schedules; blocks near the data matter most."""
    order = list(itertools.combinations_with_replacement((9, 5, 2), 4))
    lost = np.array(
        [[(9 - d) * w for d, w in zip(row, (4, 3, 2, 1), strict=True)] for row in order]
    )
    truth = 0.4 + 0.02 * lost.sum(1)
    errors = ErrorTable(
        depths=(1, 2, 3),
        losses=tuple(tuple(0.01 * w * (9 - d) for d in LEVELS) for w in (4, 3, 2, 1)),
        standard_errors=((0.0,) * 3,) * 4,
        exits="uniform",
        num_steps=400,
        num_images=8,
        seed=0,
        seconds=25.0,
    )
    values: dict[str, object] = {
        "name": "toy",
        "levels": LEVELS,
        "weights": WEIGHTS,
        "depths": np.array(order, dtype=np.int8),
        "fid": np.stack([truth - 0.1, truth + 0.1], axis=1).astype(np.float32),
        "latency_ms": np.array(
            [10 + sum(w * d for w, d in zip(WEIGHTS, row, strict=True)) for row in order],
            dtype=np.float32,
        ),
        "error_tables": {"uniform": errors},
        "costs": {"trial": 10.0, "latency": 4.0, "fine_tune": 8.0, "sample": 2.0},
        "protocol": {"num_samples": 500},
    }
    return Table(**{**values, **changes})  # type: ignore[arg-type]
