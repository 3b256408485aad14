"""Frechet distance between feature distributions (FID; Heusel et al., 2017, Eq. 6).

Computed here and not by clean-fid: ``scipy.linalg.sqrtm`` hangs for ever on a NaN matrix of
128 rows or more, and the symmetric form below is four times as fast at 2,048 features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.exceptions import TrialError


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """Mean, (D,), and unbiased covariance, (D, D), float64, of ``num_images`` features."""

    mean: Tensor
    cov: Tensor
    num_images: int


def feature_statistics(batches: Tensor | Iterable[Tensor]) -> FeatureStatistics:
    """Mean and covariance of features, in float64 and in one pass.

    Batches are merged by their means and scatter matrices (Chan et al., 1983), so nothing
    cancels and a million images need no more memory than a batch.

    Args:
        batches: Features, (N, D), or batches of them.

    Raises:
        TrialError: If a feature is not a finite number (stage ``fid``).
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


def pooled_statistics(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    """Statistics of all images of several parts together.

    Args:
        parts: One or more, of one extractor.
    """
    count = sum(part.num_images for part in parts)
    mean = torch.stack([part.mean * part.num_images for part in parts]).sum(0) / count
    scatter = torch.zeros_like(parts[0].cov)
    for part in parts:
        delta = part.mean - mean
        scatter += part.cov * (part.num_images - 1) + part.num_images * torch.outer(delta, delta)
    return FeatureStatistics(mean, scatter / (count - 1), count)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2) (Heusel et al., Eq. 6).

    This squared distance is what is called FID. The matrix under the root is symmetric and
    positive semidefinite, so its eigenvalues give the trace directly; rank-deficient covariances
    need no regularisation. Rounding may turn an eigenvalue of zero, or the distance of equal
    statistics, slightly negative: both are cut off at zero.

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
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    delta = a.mean - b.mean
    value = float(delta @ delta + torch.trace(a.cov) + torch.trace(b.cov) - 2 * cross)
    return max(0.0, value)


def check_finite(values: Tensor) -> None:
    """Refuse NaN and infinity before any linear algebra sees them.

    Raises:
        TrialError: With stage ``fid`` and the number of bad rows.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = int((~finite.reshape(len(values), -1).all(1)).sum())
        raise TrialError(
            f"{bad} of {len(values)} feature rows are not finite: the samples are broken.",
            stage="fid",
        )


def _symmetric_root(matrix: Tensor) -> Tensor:
    """Square root of a symmetric positive semidefinite matrix, (D, D) -> (D, D)."""
    eigenvalues, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    root: Tensor = (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
    return root
