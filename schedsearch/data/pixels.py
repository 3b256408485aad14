"""The two pixel formats: uint8 for files and metrics, float [-1, 1] for networks."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(x: Tensor) -> Tensor:
    """Convert float [-1, 1] to uint8: round to the nearest level and clamp."""
    return (x.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """Convert uint8 to float32 in [-1, 1]; :func:`to_uint8` inverts it exactly."""
    return pixels.float() / 127.5 - 1.0


def as_pixels(samples: Tensor) -> Tensor:
    """Return samples of a pixel model, (n, C, H, W), as float32 on the CPU."""
    return samples.float().cpu()
