"""Frechet distance between feature distributions (FID; Heusel et al., 2017, Eq. 6).

clean-fid is not used, because ``scipy.linalg.sqrtm`` hangs on a large NaN matrix. The symmetric
form below is faster too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.exceptions import TrialError


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """Mean (D,) and unbiased covariance (D, D) of features, float64."""

    mean: Tensor
    cov: Tensor
    num_images: int


def feature_statistics(batches: Tensor | Iterable[Tensor]) -> FeatureStatistics:
    """Compute mean and covariance of features, in float64 and one pass.

    Batches are merged by their means and scatter matrices (Chan et al., 1983). This avoids
    cancellation and needs memory for one batch only.

    Args:
        batches: Features, (N, D), or batches of them.

    Raises:
        TrialError: If a feature is not finite (stage ``fid``).
        ValueError: If there are fewer than two images.
    """
    count = 0
    mean = scatter = torch.zeros(())
    for batch in [batches] if isinstance(batches, Tensor) else batches:
        features = batch.detach().to("cpu", torch.float64)
        check_finite(features)
        num = features.shape[0]
        if num == 0:
            continue
        batch_mean = features.mean(0)
        centred = features - batch_mean
        batch_scatter = centred.T @ centred
        if count == 0:
            mean, scatter = batch_mean, batch_scatter
        else:
            delta = batch_mean - mean
            mean = mean + delta * (num / (count + num))
            scatter = scatter + batch_scatter
            scatter += torch.outer(delta, delta) * (count * num / (count + num))
        count += num
    if count < 2:
        raise ValueError(f"A covariance needs at least 2 images, but got {count}.")
    return FeatureStatistics(mean, scatter / (count - 1), count)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Compute FID, the squared Frechet distance (Heusel et al., Eq. 6).

    It is ``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2)``. The matrix under the
    root is symmetric and positive semidefinite, so its eigenvalues give the trace. Singular
    covariances need no regularisation.

    Raises:
        TrialError: If the statistics are not finite (stage ``fid``).
        ValueError: If the numbers of features differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            "Both statistics must come from one extractor, but they have "
            f"{a.mean.shape[0]} and {b.mean.shape[0]} features."
        )
    for statistics in (a, b):
        check_finite(statistics.mean)
        check_finite(statistics.cov)
    root = _symmetric_root(a.cov)
    product = root @ b.cov @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    # NOTE: Rounding can make eigenvalues, and the final distance, slightly negative.
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    delta = a.mean - b.mean
    value = float(delta @ delta + torch.trace(a.cov) + torch.trace(b.cov) - 2 * cross)
    return max(0.0, value)


def check_finite(values: Tensor) -> None:
    """Check for NaN and infinity before any linear algebra.

    Raises:
        TrialError: If a value is not finite; it has stage ``fid`` and the number of bad rows.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = int((~finite.reshape(len(values), -1).all(1)).sum())
        raise TrialError(
            f"{bad} of {len(values)} feature rows are not finite: the samples are broken.",
            stage="fid",
        )


def _symmetric_root(matrix: Tensor) -> Tensor:
    """Return the square root of a positive semidefinite matrix, (D, D)."""
    eigenvalues, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    root: Tensor = (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
    return root
