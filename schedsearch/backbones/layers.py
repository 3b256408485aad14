"""Shared parts of the networks: time and position features, unpatchify, block recomputation.

Shapes: N batch, T tokens, D width, C/H/W image, P patch side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def time_features(t: Tensor, width: int) -> Tensor:
    """Sinusoidal features of times (ADM's embedding, used by DiT and U-ViT).

    ``cos`` comes before ``sin``, and the exponent is divided by the half width. Other libraries
    differ in both; released weights need this form.

    Args:
        t: Network times, (N,), integers or floats.
        width: Number of features. If it is odd, the last feature is 0.

    Returns:
        Features, (N, width) float32.
    """
    # NOTE: Computed at every call, because a buffer would lose digits in a bfloat16 model.
    half = width // 2
    # NOTE: Multiply before dividing. The other order changes the last float32 digit, which
    # grows to an error of 1e-5 at times of several hundred.
    exponent = -math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(exponent / half)  # (N, width // 2)
    features = torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)
    return F.pad(features, (0, 1)) if width % 2 else features


def sincos_position_embedding(width: int, side: int) -> Tensor:
    """Fixed position embedding of a square grid of patches.

    The first half of the channels encodes the column, the second half the row. In each half
    ``sin`` comes before ``cos``, as in released checkpoints.

    Args:
        width: Width D, a multiple of 4.
        side: Patches per side.

    Returns:
        Embedding, (side * side, D) float32, in row-major order.
    """
    quarter = width // 4
    omega = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(side, dtype=torch.float64)[:, None] * omega  # (side, D/4)
    line = torch.cat([angle.sin(), angle.cos()], dim=1)  # (side, D/2)
    columns = line[None, :].expand(side, side, -1)
    rows = line[:, None].expand(side, side, -1)
    return torch.cat([columns, rows], dim=-1).reshape(side * side, width).float()


def unpatchify(pixels: Tensor, patch_size: int, num_channels: int) -> Tensor:
    """Assemble patches (N, T, P*P*C) to square images (N, C, H, W)."""
    side = math.isqrt(pixels.shape[1])
    grid = pixels.reshape(len(pixels), side, side, patch_size, patch_size, num_channels)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(
        len(pixels), num_channels, side * patch_size, side * patch_size
    )


def check_labels(y: Tensor | None, num_classes: int | None, null_label: int | None) -> None:
    """Refuse labels of an unconditional model, and their lack in a conditional one.

    Raises:
        ValueError: If ``y`` does not fit the model.
    """
    if num_classes is None and y is not None:
        raise ValueError("This model is unconditional and takes no labels y.")
    if num_classes is not None and y is None:
        none = "." if null_label is None else f'; the label {null_label} means "no class".'
        raise ValueError(
            f"This model is conditioned on {num_classes} classes and needs labels y{none}"
        )


def run_block(block: nn.Module, *inputs: Any, recompute: bool) -> Tensor:
    """Run a block, optionally with gradient checkpointing.

    Args:
        block: A block without randomness (no dropout).
        inputs: Arguments of the block.
        recompute: Keep only the inputs and recompute the activations in the backward pass.
            Result and gradients do not change.
    """
    if recompute and torch.is_grad_enabled():
        run = cast(Callable[..., Tensor], checkpoint)
        # NOTE: Blocks draw no random numbers, so no generator state needs restoring.
        return run(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    output: Tensor = block(*inputs)
    return output
