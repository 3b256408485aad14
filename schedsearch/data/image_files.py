"""Reads one image file into pixels of the model's input shape."""

from __future__ import annotations

import errno
import stat
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

Mode = Literal["L", "RGB"]

_DAMAGE = (
    OSError,  # missing, truncated, not an image
    SyntaxError,  # raised by Pillow's PNG reader
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,  # a direct subclass of Exception
)
"""Errors that Pillow raises for damaged or hostile files."""


class UnreadableImageError(Exception):
    """An image file is damaged, too large, or has an unknown value range."""


def read_image(file: Path, mode: Mode, height: int, width: int) -> Tensor:
    """Read, convert, crop and resize one image.

    16-bit grey becomes 8-bit, CMYK and palettes become RGB, and transparent areas become white.
    Orientation tags are ignored, as in the reference code.

    Args:
        file: The image file.
        mode: Pillow mode, which sets the number of channels C: 1 for ``L``, 3 for ``RGB``.
        height: Height H of the result.
        width: Width W of the result.

    Returns:
        Pixels, (C, H, W) uint8.

    Raises:
        UnreadableImageError: If the image cannot be read; the message omits the file name.
    """
    if (reason := why_no_regular_file(file)) is not None:  # a pipe would block
        raise UnreadableImageError(reason)
    try:
        with Image.open(file) as image:
            fitted = centre_crop(_converted(image, mode), height, width)
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image") from error
    except _DAMAGE as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error
    pixels = torch.from_numpy(np.array(fitted))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def why_no_regular_file(file: Path) -> str | None:
    """Why a path cannot be an image, without opening it; or None."""
    try:
        found = file.stat()
    except OSError as error:
        if file.is_symlink() and error.errno == errno.ENOENT:
            return "a link to nothing"
        return error.strerror or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "Is a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
    return None


def centre_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize an image to cover the target, then crop the centre (ADM's code).

    Halve with a box filter while the image has twice the target size, then resize once with a
    bicubic filter. DiT and U-ViT use the same code. ADM's target is square; for rectangles the
    rule applies to each side.

    Raises:
        ValueError: If the image is so elongated that the resized image would be too large.
    """
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    resized = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    if Image.MAX_IMAGE_PIXELS is not None and resized[0] * resized[1] > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"an image of {image.width} x {image.height} pixels is too elongated")
    image = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def _converted(image: Image.Image, mode: Mode) -> Image.Image:
    if image.mode.startswith("I;16"):  # NOTE: Pillow's own conversion clips at 255
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise ValueError(f"its mode {image.mode} has no known range; save it with 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")  # NOTE: some modes cannot convert to grey directly
    return image.convert(mode)
