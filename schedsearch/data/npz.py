"""Reads images and arrays from NumPy archives, without pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from schedsearch.data.sources import ImagesInMemory
from schedsearch.exceptions import ConfigError
from schedsearch.files.content import kind_of, why_not_a_file

_MAGIC = b"\x93NUMPY"

IMAGE_KEYS = ("images", "x", "arr_0")
LABEL_KEYS = ("labels", "y", "arr_1")
"""``arr_0`` and ``arr_1`` are the keys of ADM's sample and reference batches."""

MAX_LABEL = 2**31
"""Labels from here on are no classes."""


def load_npz(path: Path, in_shape: tuple[int, int, int]) -> ImagesInMemory:
    """Read images, uint8 (N, H, W, C), and optional labels, (N,) integers.

    Keys are ``images`` (or ``x``, ``arr_0``) and ``labels`` (or ``y``, ``arr_1``). Grey images
    may omit the last axis. Images are not resized, and pickles are refused.

    Args:
        path: The archive.
        in_shape: Input shape (C, H, W) of the model.

    Raises:
        ConfigError: If the file is damaged or its arrays do not fit.
    """
    arrays = read_arrays(path, IMAGE_KEYS, LABEL_KEYS)
    found = next(arrays[key] for key in IMAGE_KEYS if key in arrays)
    images = _checked_images(found, in_shape, path)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    given = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    if given is None:
        return ImagesInMemory(tensor, None, None)
    labels = checked_labels(given, len(images), path)
    return ImagesInMemory(tensor, torch.from_numpy(labels), int(labels.max()) + 1)


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


def checked_labels(labels: NDArray[np.generic], num_images: int, path: Path) -> NDArray[np.int64]:
    """Return labels as int64, (num_images,).

    Raises:
        ConfigError: If they are not one integer >= 0 per image.
    """
    if labels.shape != (num_images,) or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"data.path {path}: labels must be {num_images} integers, one per image, but are "
            f"{labels.dtype} {labels.shape}."
        )
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < MAX_LABEL:
            raise ConfigError(f"data.path {path}: labels start at 0, but one is {label}.")
    return labels.astype(np.int64)


def is_single_array(path: Path) -> bool:
    """Whether a file begins as ``np.save`` begins one."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_arrays(
    path: Path, one_of: Sequence[str], optional: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """Read the arrays with the given keys from an npz file.

    Args:
        path: The archive.
        one_of: Keys of which at least one must exist.
        optional: Further keys.

    Raises:
        ConfigError: If the file is missing or damaged, has none of the keys, or holds objects.
    """
    if (reason := why_not_a_file(path)) is not None:
        raise ConfigError(f"data.path: {reason}.")
    if is_single_array(path):
        raise ConfigError(f"data.path {path} is a single array; save it with np.savez.")
    if (found := kind_of(path)) is not None:
        kind, remedy = found
        raise ConfigError(f"data.path {path} cannot be read as npz: it is {kind}. {remedy}.")
    if not zipfile.is_zipfile(path):
        raise ConfigError(
            f"data.path {path} cannot be read as npz: it is no NumPy archive, or was cut off. "
            "Make it with np.savez, or copy it again."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            arrays = {key: archive[key] for key in (*one_of, *optional) if key in names}
    except MemoryError as error:
        raise ConfigError(f"data.path {path} does not fit into memory: {error}.") from error
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"data.path {path} cannot be read as npz ({error}). It may be cut off, or hold "
            "objects, which are refused because they could run code."
        ) from error
    if not any(key in arrays for key in one_of):
        first, *others = (repr(key) for key in one_of)
        raise ConfigError(
            f"data.path {path} needs the key {first} (or {', '.join(others)}), but has "
            f"{', '.join(names) or 'nothing'}."
        )
    for keys in (one_of, LABEL_KEYS):
        if len(same := [key for key in keys if key in arrays]) > 1:
            raise ConfigError(f"data.path {path} must hold either {' or '.join(same)}, not both.")
    if odd := [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise ConfigError(f"data.path {path}: {odd[0]} is no array. Save it with np.savez.")
    # NOTE: torch takes native bytes only.
    return {k: v.astype(v.dtype.newbyteorder("="), copy=False) for k, v in arrays.items()}
