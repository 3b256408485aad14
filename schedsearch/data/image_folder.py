"""Images in a folder, read on demand: one subfolder per class, or a flat folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from schedsearch.data.pixels import to_float
from schedsearch.exceptions import ConfigError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"})
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

READ_THREADS = 4
"""Images decoded at once; Pillow lets go of the interpreter while it decodes."""

VERIFIED_PER_CLASS = 4
"""Images of every class that the preflight reads."""


class ImageFolder:
    """Image files, centre-cropped to the aspect of the model's input and resized (bicubic).

    Classes are the sorted names of the subfolders; without subfolders there are no labels.

    Args:
        path: The folder.
        in_shape: Shape (C, H, W) that the model wants; C is 1 (grey) or 3 (RGB).

    Raises:
        ConfigError: If the folder is missing, a class is empty, or C is another number.
    """

    def __init__(self, path: Path, in_shape: tuple[int, int, int]) -> None:
        channels, self._height, self._width = in_shape
        if channels not in MODES:
            raise ConfigError(
                f"data.source image_folder gives 1 or 3 channels, but the backbone wants "
                f"{channels}. Models on latents need their latents as data."
            )
        if not path.is_dir():
            raise ConfigError(f"data.path {path} is not a folder.")
        self._mode = MODES[channels]
        self._root = path
        self._files, self._labels, self.classes = _scan(path)

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self._files)

    @property
    def num_classes(self) -> int | None:
        """Number of subfolders, or None for a flat folder."""
        return len(self.classes) or None

    @property
    def fingerprint(self) -> str:
        """Digest of names, file sizes and the size that images are brought to."""
        digest = hashlib.sha256(f"{self._mode} {self._height}x{self._width}\n".encode())
        for file in self._files:
            name = file.relative_to(self._root).as_posix()
            digest.update(f"{name} {file.stat().st_size}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images with replacement, (N, C, H, W) float32 in [-1, 1], and labels (N,)."""
        chosen = torch.randint(len(self._files), (size,), generator=generator)
        images = to_float(self._read_all([self._files[index] for index in chosen.tolist()]))
        return images, None if self._labels is None else self._labels[chosen]

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, in order of class and name: (n, C, H, W) uint8."""
        for start in range(0, len(self._files), batch_size):
            yield self._read_all(self._files[start : start + batch_size])

    def verify(self) -> None:
        """Read some images of every class.

        Raises:
            ConfigError: If one cannot be read; the message names the file.
        """
        labels = [0] * len(self._files) if self._labels is None else self._labels.tolist()
        for label in range(len(self.classes) or 1):
            members = [file for file, own in zip(self._files, labels, strict=True) if own == label]
            picks = np.linspace(0, len(members) - 1, VERIFIED_PER_CLASS).astype(int)
            self._read_all([members[pick] for pick in sorted(set(picks.tolist()))])

    def _read_all(self, files: Sequence[Path]) -> Tensor:
        with ThreadPoolExecutor(READ_THREADS) as pool:
            return torch.stack(list(pool.map(self._read, files)))

    def _read(self, file: Path) -> Tensor:
        """One image, (C, H, W) uint8."""
        try:
            with Image.open(file) as image:
                fitted = ImageOps.fit(
                    image.convert(self._mode),
                    (self._width, self._height),
                    method=Image.Resampling.BICUBIC,
                )
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for damage
            raise ConfigError(
                f"The image {file} cannot be read ({error}). Replace or remove it."
            ) from error
        pixels = torch.from_numpy(np.array(fitted))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _scan(path: Path) -> tuple[list[Path], Tensor | None, list[str]]:
    """Files in order, their labels, and the names of the classes."""
    folders = sorted(entry for entry in path.iterdir() if _is_visible_folder(entry))
    if not folders:
        files = _images_under(path)
        if not files:
            raise ConfigError(
                f"data.path {path} holds no images ({', '.join(sorted(EXTENSIONS))})."
            )
        return files, None, []
    files, labels = [], []
    for label, folder in enumerate(folders):
        members = _images_under(folder)
        if not members:
            raise ConfigError(
                f"data.path {path}: the class folder {folder.name!r} holds no images; "
                "remove it or fill it. Every subfolder is a class."
            )
        files += members
        labels += [label] * len(members)
    return files, torch.tensor(labels, dtype=torch.long), [folder.name for folder in folders]


def _is_visible_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _images_under(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
    )
