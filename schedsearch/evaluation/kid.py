"""Kernel distance between feature distributions (KID; Binkowski et al., 2018).

Unlike FID it is unbiased, so it is reliable for few images too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from schedsearch.evaluation.frechet import check_finite

MAX_FULL = 5000
"""Largest number of rows per side for which all pairs are used."""

SUBSET_SIZE = 1000
NUM_SUBSETS = 100
"""Number and size of random subsets for more rows (Binkowski et al., 2018, Sec. 4)."""

_SEED = 0
"""Seed of the subsets. Trials of equal sizes use the same rows, so their comparison is paired."""

_CHUNK = 1024
"""Rows of the kernel matrix in memory at once."""


def kernel_distance(x: Tensor, y: Tensor, *, max_full: int = MAX_FULL) -> float:
    """Compute KID, the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    The value can be slightly negative.

    Args:
        x: Features, (N, D).
        y: Features, (M, D).
        max_full: Largest N and M for which all pairs are used.

    Raises:
        TrialError: If a feature is not finite (stage ``fid``).
        ValueError: If a side has fewer than two rows.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"KID needs two images on each side, but got {len(x)} and {len(y)}.")
    x, y = (features.detach().to("cpu", torch.float64) for features in (x, y))
    check_finite(x)
    check_finite(y)
    if max(len(x), len(y)) <= max_full:
        return _unbiased_mmd(x, y)
    rng = np.random.default_rng(_SEED)
    values = []
    for _ in range(NUM_SUBSETS):
        rows_x = rng.choice(len(x), min(SUBSET_SIZE, len(x)), replace=False)
        rows_y = rng.choice(len(y), min(SUBSET_SIZE, len(y)), replace=False)
        values.append(_unbiased_mmd(x[torch.from_numpy(rows_x)], y[torch.from_numpy(rows_y)]))
    return float(np.mean(values))


def _unbiased_mmd(x: Tensor, y: Tensor) -> float:
    """Compute the U-statistic of Gretton et al. (2012, Eq. 3), without same-row pairs."""
    n, m = len(x), len(y)
    within_x = (_kernel_sum(x, x) - float(_kernel(x * x).sum())) / (n * (n - 1))
    within_y = (_kernel_sum(y, y) - float(_kernel(y * y).sum())) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel_sum(x, y) / (n * m)


def _kernel_sum(x: Tensor, y: Tensor) -> float:
    total = 0.0
    for rows in x.split(_CHUNK):  # type: ignore[no-untyped-call]
        total += float((rows @ y.T / x.shape[1] + 1).pow(3).sum())
    return total


def _kernel(products: Tensor) -> Tensor:
    """Compute the kernel of each row with itself from its squares, (N, D) -> (N,)."""
    return (products.sum(1) / products.shape[1] + 1).pow(3)
