"""Draws a grid of samples; equal cells of two grids share their noise."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from schedsearch.files.atomic import replacing

_WANTED_PIXELS = 640


def save_grid(images: Tensor, path: Path, columns: int = 10) -> None:
    """Write images as one PNG, enlarging small images by a whole factor.

    Args:
        images: Images, (N, C, H, W) uint8, with one or three channels.
        path: Target; replaced atomically.
        columns: Images per row.

    Raises:
        ValueError: If the number of channels is not 1 or 3, as for latents.
    """
    from PIL import Image
    from torchvision.utils import make_grid

    channels, height = images.shape[1], images.shape[2]
    if channels not in (1, 3):
        raise ValueError(f"A picture has 1 or 3 channels, but the samples have {channels}.")
    factor = max(1, _WANTED_PIXELS // (columns * height))
    large = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    grid = make_grid(large, nrow=columns, padding=2, pad_value=96)
    picture = Image.fromarray(grid.permute(1, 2, 0).contiguous().numpy())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
