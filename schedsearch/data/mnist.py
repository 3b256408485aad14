"""Reads MNIST from torchvision's four files, in place and without a download.

torchvision's class unpacks the archives next to them, which fails in a read-only folder. All
files must have the published digest.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from schedsearch.data.sources import ImagesInMemory
from schedsearch.exceptions import ConfigError

FOLDER = "MNIST/raw"
"""Folder of the files below torchvision's root."""

CONTENTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of the unpacked files, from archives with torchvision's published md5."""

REMEDY = (
    'On a machine with a network, python -c "import torchvision; torchvision.datasets.MNIST('
    "'FOLDER', download=True)\" fetches it; then set data.path to FOLDER."
)


def load_mnist(root: Path, *, train: bool = True) -> ImagesInMemory:
    """Load the images, 28x28 grey, in ten classes (LeCun, Cortes and Burges).

    The 60,000 training images are training data and, by default, FID reference.

    Args:
        root: torchvision's root folder, with packed (``.gz``) or unpacked files in
            ``MNIST/raw``.
        train: Load the training images; else the 10,000 test images, which check extractors and
            may be the FID reference.

    Raises:
        ConfigError: If a file is missing or not the published one.
    """
    split = "train" if train else "t10k"
    images = _array(_content(root, f"{split}-images-idx3-ubyte"), num_axes=3)
    labels = _array(_content(root, f"{split}-labels-idx1-ubyte"), num_axes=1)
    return ImagesInMemory(images[:, None], labels.long(), num_classes=10)


def _content(root: Path, name: str) -> bytes:
    """Return the unpacked bytes of a file after checking its digest."""
    plain = root / FOLDER / name
    packed = plain.with_name(f"{name}.gz")
    found = plain if plain.is_file() else packed
    try:
        content = found.read_bytes()
        if found == packed:
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise ConfigError(
            f"data.source mnist needs {packed} (or without .gz), which does not exist. {REMEDY}"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{found} cannot be read ({error}). Fetch it again. {REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != CONTENTS[name]:
        raise ConfigError(
            f"{found} is not the published MNIST file: it is damaged or other data. Fetch it "
            f"again, or use data.source npz for your own data. {REMEDY}"
        )
    return content


def _array(content: bytes, num_axes: int) -> Tensor:
    """Parse the idx format: 4 magic bytes, big-endian sizes, then the values."""
    shape = np.frombuffer(content, dtype=">u4", count=num_axes, offset=4).astype(int)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * num_axes)
    return torch.from_numpy(values.reshape(shape).copy())
