"""What networks share: time and position features, patches to images, recomputed blocks.

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
    """Sinusoidal features of times (ADM's embedding, which DiT and U-ViT were trained with).

    The features hold ``cos`` before ``sin`` and divide by the half width itself, where other
    libraries put ``sin`` first or divide by one less: released weights need exactly this.

    Args:
        t: Times as the network is fed them, (N,), integers or floats.
        width: Number of features; an odd one ends in a zero.

    Returns:
        Features, (N, width) float32. They are rebuilt at every call, because a buffer would
        lose digits in a bfloat16 model.
    """
    half = width // 2
    # Multiplied before it is divided: the other order differs in the last digit of float32,
    # which times of several hundred turn into an error of 1e-5.
    exponent = -math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(exponent / half)  # (N, width // 2)
    features = torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)
    return F.pad(features, (0, 1)) if width % 2 else features


def sincos_position_embedding(width: int, side: int) -> Tensor:
    """Fixed position embedding of a square grid of patches.

    The first half of the channels encodes the column and the second half the row, each as
    ``sin`` then ``cos`` (the order in released checkpoints).

    Args:
        width: Width D, a multiple of 4.
        side: Patches per side.

    Returns:
        Embedding, (side * side, D) float32, rows first.
    """
    quarter = width // 4
    omega = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(side, dtype=torch.float64)[:, None] * omega  # (side, D/4)
    line = torch.cat([angle.sin(), angle.cos()], dim=1)  # (side, D/2)
    columns = line[None, :].expand(side, side, -1)
    rows = line[:, None].expand(side, side, -1)
    return torch.cat([columns, rows], dim=-1).reshape(side * side, width).float()


def unpatchify(pixels: Tensor, patch_size: int, num_channels: int) -> Tensor:
    """Lay the patches of a square image side by side: (N, T, P * P * C) -> (N, C, H, W)."""
    side = math.isqrt(pixels.shape[1])
    grid = pixels.reshape(len(pixels), side, side, patch_size, patch_size, num_channels)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(
        len(pixels), num_channels, side * patch_size, side * patch_size
    )


def run_block(block: nn.Module, *inputs: Any, recompute: bool) -> Tensor:
    """Run a block, keeping its activations or computing them again in the backward pass.

    Args:
        block: A block without randomness (no dropout).
        inputs: What it is called with.
        recompute: Keep only the inputs, as far as gradients are wanted at all; the result and
            its gradients are the same.
    """
    if recompute and torch.is_grad_enabled():
        run = cast(Callable[..., Tensor], checkpoint)
        # Without randomness there is no state of generators to keep and set back.
        return run(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    output: Tensor = block(*inputs)
    return output
