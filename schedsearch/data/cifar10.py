"""Reads CIFAR-10 from torchvision's files, in place and without a download.

The published files are pickles, which can run code. So a file must have the published digest,
and only the names that build its arrays are allowed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from schedsearch.data.sources import ImagesInMemory
from schedsearch.exceptions import ConfigError

FOLDER = "cifar-10-batches-py"
"""Folder of the unpacked archive below torchvision's root."""

ARCHIVE = "cifar-10-python.tar.gz"

CONTENTS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
"""md5 of the training batches, from torchvision's ``CIFAR10.train_list``."""

TEST_CONTENTS = {"test_batch": "40351d587109b95175f43aff81a1287e"}
"""md5 of the test batch, from ``CIFAR10.test_list``."""

REMEDY = (
    'On a machine with a network, python -c "import torchvision; torchvision.datasets.CIFAR10('
    "'FOLDER', download=True)\" fetches it; then set data.path to FOLDER."
)

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""All names in the published files. numpy has moved the first one since then."""


def load_cifar10(root: Path, *, train: bool = True) -> ImagesInMemory:
    """Load the images, 32x32 RGB, in ten classes (Krizhevsky, 2009).

    The 50,000 training images are training data and, as in the papers, FID reference.

    Args:
        root: torchvision's root folder, with the unpacked batches or the archive.
        train: Load the training images; else the 10,000 test images.

    Raises:
        ConfigError: If a file is missing or not the published one.
    """
    published = CONTENTS if train else TEST_CONTENTS
    contents = _contents(root, published)
    images, labels = [], []
    for name, content in contents.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != published[name]:
            raise ConfigError(
                f"{name} of {root} is not the published CIFAR-10 file: it is damaged or other "
                f"data. Fetch it again, or use data.source npz for your own data. {REMEDY}"
            )
        batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        images.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
        labels += batch["labels"]
    return ImagesInMemory(
        torch.from_numpy(np.concatenate(images)), torch.tensor(labels), num_classes=10
    )


def _contents(root: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return batches by name, from the folder or the archive."""
    folder, archive = root / FOLDER, root / ARCHIVE
    try:
        if folder.is_dir() or not archive.is_file():
            return {name: (folder / name).read_bytes() for name in names}
        return _unpacked(archive, names)
    except FileNotFoundError as error:
        raise ConfigError(
            f"data.source cifar10 needs {error.filename} (or {archive}), which does not exist. "
            f"{REMEDY}"
        ) from error
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ConfigError(
            f"CIFAR-10 in {root} cannot be read ({error}). Fetch it again. {REMEDY}"
        ) from error


def _unpacked(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """Read batches from the archive without writing files."""
    contents: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for name in names:
            try:
                member = tar.extractfile(f"{FOLDER}/{name}")
            except KeyError as error:
                raise tarfile.TarError(f"it lacks {FOLDER}/{name}") from error
            contents[name] = b"" if member is None else member.read()
    return contents


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain data and NumPy arrays, and refuses any other name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ConfigError(
                f"A CIFAR-10 file names {module}.{name}, which the published file does not. It is "
                "refused, because it could run code."
            ) from None
