"""Linear corrections of reused tokens and of exits, and their closed-form fits.

Every fit is ridge regression of what a simple rule misses, so it shrinks towards that rule:
plain reuse h_f + r, or the tokens of the exit as they are.

Shapes: D width, T tokens; tokens (N, T, D).
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-3
"""Ridge per mean diagonal entry of the Gram matrix."""


def reused(h: Tensor, residual: Tensor, numbers: Tensor | None) -> Tensor:
    """Tokens of a reused step, (N, T, D).

    Args:
        h: Tokens after the prefix, (N, T, D).
        residual: What the other blocks added at the last full step, (N, T, D).
        numbers: None adds it as it is; (3, D) fits per channel; (2D + 1, D) is a linear map.
    """
    if numbers is None:
        return h + residual
    if len(numbers) == 3:
        return numbers[0] * h + numbers[1] * residual + numbers[2]
    width = h.shape[-1]
    return h @ numbers[:width] + residual @ numbers[width:-1] + numbers[-1]


def adapted(h: Tensor, numbers: Tensor) -> Tensor:
    """Tokens of an exit after its adapter (D + 1, D), shaped like ``h``."""
    return h @ numbers[:-1] + numbers[-1]


# ---- fits per channel ---------------------------------------------------------------------------


def diagonal_sums(h: Tensor, residual: Tensor, full: Tensor) -> Tensor:
    """Sums over rows for :func:`fit_diagonal`, (9, D) float64 on the CPU.

    Args:
        h: Tokens after the prefix, (M, D).
        residual: The cached residual, (M, D).
        full: Tokens after all blocks, (M, D).
    """
    a, b = h.double(), residual.double()
    missed = full.double() - a - b
    terms = (torch.ones_like(a), a, b, missed, a * a, a * b, b * b, a * missed, b * missed)
    return torch.stack([term.sum(0) for term in terms]).cpu()


def fit_diagonal(sums: Tensor) -> Tensor:
    """Fit scale of the tokens, scale of the residual and bias per channel.

    Args:
        sums: From :func:`diagonal_sums`, added up over batches, (..., 9, D).

    Returns:
        Numbers for :func:`reused`, (..., 3, D) float32.
    """
    count, a, b, missed, aa, ab, bb, am, bm = sums.unbind(-2)
    mean_a, mean_b, mean_m = a / count, b / count, missed / count
    var_a, var_b = aa / count - mean_a**2, bb / count - mean_b**2
    cov = ab / count - mean_a * mean_b
    with_a, with_b = am / count - mean_a * mean_m, bm / count - mean_b * mean_m
    # NOTE: A channel that never varies keeps the scales of plain reuse. Its variance is only
    # rounding, far below the square of its mean.
    ridge_a = RIDGE * var_a + 1e-10 * aa / count + 1e-12
    ridge_b = RIDGE * var_b + 1e-10 * bb / count + 1e-12
    var_a, var_b = var_a + ridge_a, var_b + ridge_b
    det = var_a * var_b - cov**2
    scale_a = (var_b * with_a - cov * with_b) / det
    scale_b = (var_a * with_b - cov * with_a) / det
    bias = mean_m - scale_a * mean_a - scale_b * mean_b
    return torch.stack([1.0 + scale_a, 1.0 + scale_b, bias], dim=-2).float()


# ---- linear maps --------------------------------------------------------------------------------


def map_sums(inputs: Tensor, missed: Tensor) -> Tensor:
    """Sums over rows for :func:`fit_map`, (K + 1, K + 1 + D) float64 on the CPU.

    Args:
        inputs: What the map sees, (M, K).
        missed: What it should add, (M, D).
    """
    ones = torch.ones_like(inputs[:, :1])
    design = torch.cat([inputs, ones], dim=1).double()
    return (design.T @ torch.cat([design, missed.double()], dim=1)).cpu()


def fit_map(sums: Tensor) -> Tensor:
    """Fit a linear map with a bias, (K + 1, D) float64, by ridge regression.

    Args:
        sums: From :func:`map_sums`, added up over batches.
    """
    size = len(sums) - 1
    count = sums[-1, size]
    means = sums[-1] / count
    centred = sums[:size] / count - means[:size, None] * means
    gram, target = centred[:, :size], centred[:, size + 1 :]
    # NOTE: The ridge follows each channel's variance, so channels with a large mean are not
    # shrunk with the others, and the tiny constant keeps those that never vary at zero.
    variance = gram.diagonal().clamp(min=0.0)
    floor = 1e-12 * (1.0 + sums.diagonal()[:size] / count)
    slopes = torch.linalg.solve(gram + torch.diag(RIDGE * variance + floor), target)
    bias = means[size + 1 :] - means[:size] @ slopes
    return torch.cat([slopes, bias[None]])


def fit_reuse_map(sums: Tensor) -> Tensor:
    """Numbers of a linear map for :func:`reused`, (2D + 1, D) float32."""
    fitted = fit_map(sums)
    width = fitted.shape[1]
    identity = torch.eye(width, dtype=fitted.dtype)
    fitted[:width] += identity
    fitted[width:-1] += identity
    return fitted.float()


def fit_adapter(sums: Tensor) -> Tensor:
    """Numbers of an adapter for :func:`adapted`, (D + 1, D) float32."""
    fitted = fit_map(sums)
    fitted[:-1] += torch.eye(fitted.shape[1], dtype=fitted.dtype)
    return fitted.float()
