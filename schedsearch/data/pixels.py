"""The two pixel formats: uint8 0..255 for files and metrics, float [-1, 1] for networks."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(x: Tensor) -> Tensor:
    """Float [-1, 1] -> uint8 by rounding to the nearest level; values beyond are clamped."""
    return (x.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]; ``to_uint8(to_float(p)) == p`` for every level."""
    return pixels.float() / 127.5 - 1.0


def as_pixels(samples: Tensor) -> Tensor:
    """Samples of a model that works on pixels: themselves, (n, C, H, W) float32 on the CPU."""
    return samples.float().cpu()
