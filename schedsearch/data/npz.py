"""Images in a NumPy archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from schedsearch.data.sources import ImagesInMemory
from schedsearch.exceptions import ConfigError

IMAGE_KEYS = ("images", "x")
LABEL_KEYS = ("labels", "y")


def load_npz(path: Path, in_shape: tuple[int, int, int]) -> ImagesInMemory:
    """Read ``images`` (or ``x``), uint8 (N, H, W, C), and ``labels`` (or ``y``), (N,).

    Grey images may come without the last axis. Nothing is pickled or resized.

    Args:
        path: The archive.
        in_shape: Shape (C, H, W) that the model wants.

    Raises:
        ConfigError: If the file is damaged or its arrays do not fit.
    """
    if not path.is_file():
        raise ConfigError(f"data.path {path} is not a file.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(f"data.path {path} is a single array; save it with np.savez.")
            image_key = next((key for key in IMAGE_KEYS if key in archive), None)
            label_key = next((key for key in LABEL_KEYS if key in archive), None)
            names = ", ".join(archive.files) or "nothing"
            images = archive[image_key] if image_key else None
            labels = archive[label_key] if label_key else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"data.path {path} cannot be read as npz ({error}). It may be cut off, or hold "
            "objects, which are refused because they could run code."
        ) from error
    if images is None:
        raise ConfigError(f"data.path {path} needs the key 'images' (or 'x'), but has {names}.")
    images = _checked_images(images, in_shape, path)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    if labels is None:
        return ImagesInMemory(tensor, None, None)
    labels = _checked_labels(labels, len(images), path)
    return ImagesInMemory(tensor, torch.from_numpy(labels).long(), int(labels.max()) + 1)


def _checked_images(
    images: NDArray[np.generic], in_shape: tuple[int, int, int], path: Path
) -> NDArray[np.generic]:
    channels, height, width = in_shape
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8:
        raise ConfigError(
            f"data.path {path}: images must be uint8 (0..255), but are {images.dtype}."
        )
    if len(images) == 0 or images.shape[1:] != (height, width, channels):
        raise ConfigError(
            f"data.path {path}: the backbone wants images (N, {height}, {width}, {channels}), "
            f"but the file has {images.shape}. Resize them or change the backbone's input_size "
            "and in_channels."
        )
    return images


def _checked_labels(
    labels: NDArray[np.generic], num_images: int, path: Path
) -> NDArray[np.integer]:
    if labels.shape != (num_images,) or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"data.path {path}: labels must be {num_images} integers, one per image, but are "
            f"{labels.dtype} {labels.shape}."
        )
    integers = labels.astype(np.int64)
    if integers.min() < 0:
        raise ConfigError(f"data.path {path}: labels start at 0, but one is {integers.min()}.")
    return integers
