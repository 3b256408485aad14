"""Reads images from a flat folder, or from one subfolder per class, on demand."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from schedsearch.data.folder_listing import FolderListing, list_pictures
from schedsearch.data.image_files import (
    Mode,
    UnreadableImageError,
    read_image,
    why_no_regular_file,
)
from schedsearch.data.pixels import as_pixels, to_float
from schedsearch.data.sources import spread_over_classes
from schedsearch.exceptions import ConfigError

MODES: dict[int, Mode] = {1: "L", 3: "RGB"}
"""Pillow mode by number of channels."""

READ_THREADS = 4
"""Images decoded in parallel; Pillow releases the GIL while decoding."""

READ_ALL = 2_000
"""Number of images up to which the preflight reads all of them."""

_NAMED = 3
"""Largest number of damaged files that a message names."""

_log = logging.getLogger(__name__)


class ImageFolder:
    """Image files, cropped and resized as in ADM (:func:`.image_files.centre_crop`).

    Classes are the sorted names of the subfolders; a flat folder has no labels. Training
    replaces an unreadable image by another draw, and the FID reference skips it. Every process
    counts the unreadable images it finds.

    Args:
        root: The folder; it is listed when it is first used.
        in_shape: Input shape (C, H, W) of the model; C is 1 (grey) or 3 (RGB).
        max_damaged: Number of unreadable images to tolerate.
    """

    def __init__(
        self, root: Path, in_shape: tuple[int, int, int], *, max_damaged: int = 0
    ) -> None:
        channels, self._height, self._width = in_shape
        if channels not in MODES:
            raise ConfigError(
                f"data.source image_folder gives 1 or 3 channels, but the backbone wants "
                f"{channels}. Models on latents need their latents as data."
            )
        self._mode = MODES[channels]
        self._root = root
        self._max_damaged = max_damaged
        self._damaged: dict[Path, str] = {}

    @classmethod
    def open(
        cls, path: Path, in_shape: tuple[int, int, int], *, max_damaged: int = 0
    ) -> ImageFolder:
        """List the images of a folder; none is read yet.

        Raises:
            ConfigError: If the folder is missing, a class is empty, or C is not 1 or 3.
        """
        folder = cls(path, in_shape, max_damaged=max_damaged)
        folder.listing  # noqa: B018 - an empty folder is found here
        return folder

    @cached_property
    def listing(self) -> FolderListing:
        """The files, their classes, and what was left out."""
        return list_pictures(self._root)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return self.listing.classes

    @property
    def _files(self) -> list[Path]:
        return self.listing.files

    @cached_property
    def _labels(self) -> Tensor | None:
        labels = self.listing.labels
        return None if labels is None else torch.tensor(labels, dtype=torch.long)

    @property
    def num_images(self) -> int:
        """Number of images, including unreadable ones."""
        return len(self._files)

    @property
    def num_classes(self) -> int | None:
        """Number of subfolders, or None for a flat folder."""
        return len(self.classes) or None

    @property
    def damaged(self) -> tuple[Path, ...]:
        """The unreadable images found by this process, in order of discovery."""
        return tuple(self._damaged)

    @property
    def fingerprint(self) -> str:
        """Digest of file names, file sizes and the resizing rule."""
        digest = hashlib.sha256(f"adm {self._mode} {self._height}x{self._width}\n".encode())
        for file in self._files:
            name = file.relative_to(self._root).as_posix()
            try:
                size = str(file.stat().st_size)
            except OSError:  # a dangling link, which counts as unreadable
                size = "missing"
            digest.update(os.fsencode(f"{name} {size}\n"))
        return f"sha256:{digest.hexdigest()}"

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images with replacement, (N, C, H, W) float32 in [-1, 1], and labels (N,).

        Raises:
            ConfigError: If more images are unreadable than allowed.
        """
        chosen = torch.randint(len(self._files), (size,), generator=generator)
        images = self._read_all(chosen.tolist())
        while missing := [row for row, image in enumerate(images) if image is None]:
            again = torch.randint(len(self._files), (len(missing),), generator=generator)
            chosen[missing] = again
            for row, image in zip(missing, self._read_all(again.tolist()), strict=True):
                images[row] = image
        pixels = torch.stack([image for image in images if image is not None])
        return to_float(pixels), None if self._labels is None else self._labels[chosen]

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield every readable image once, by class and name: (n, C, H, W) uint8.

        Raises:
            ConfigError: If more images are unreadable than allowed.
        """
        for start in range(0, len(self._files), batch_size):
            numbers = range(start, min(start + batch_size, len(self._files)))
            readable = [image for image in self._read_all(numbers) if image is not None]
            if readable:
                yield torch.stack(readable)

    def decode(self, samples: Tensor) -> Tensor:
        """Return the samples, which are pixels; see :class:`ImageSource`."""
        return as_pixels(samples)

    def verify(self) -> tuple[str, ...]:
        """Look at every file, and read all images of a small folder or some of every class.

        Returns:
            Warnings about skipped images, files that are left out, and odd class names.

        Raises:
            ConfigError: If more images are unreadable than allowed; the message names some.
        """
        for file in self._files:
            if (reason := why_no_regular_file(file)) is not None:
                self._count(file, reason)
        picks = spread_over_classes(self._labels, len(self._files))
        if len(self._files) <= READ_ALL:
            picks = list(range(len(self._files)))
        for start in range(0, len(picks), 64):
            self._read_all(picks[start : start + 64])
        return (*self.listing.warnings(), *([self._shown()] if self._damaged else []))

    def _read_all(self, numbers: Sequence[int]) -> list[Tensor | None]:
        """Read images by index, each (C, H, W) uint8; None if unreadable."""
        with ThreadPoolExecutor(READ_THREADS) as pool:
            results = list(pool.map(self._read, [self._files[number] for number in numbers]))
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, str):
                self._count(self._files[number], result)
        return [None if isinstance(result, str) else result for result in results]

    def _read(self, file: Path) -> Tensor | str:
        """Read one image, or return the reason why it is unreadable."""
        # NOTE: Remembering failures keeps the random draws reproducible.
        if file in self._damaged:
            return self._damaged[file]
        try:
            return read_image(file, self._mode, self._height, self._width)
        except UnreadableImageError as error:
            return str(error)

    def _count(self, file: Path, reason: str) -> None:
        if file in self._damaged:
            return
        self._damaged[file] = reason
        if len(self._damaged) > self._max_damaged or len(self._damaged) == len(self._files):
            raise ConfigError(
                f"{self._shown()} Replace or remove them, or raise data.max_damaged to skip more."
            )
        _log.warning("The image %s cannot be read (%s); it is skipped.", file, reason)

    def _shown(self) -> str:
        """Describe the number of unreadable images, and name the first ones."""
        names = [f"{file} ({reason})" for file, reason in list(self._damaged.items())[:_NAMED]]
        more = ", ..." if len(self._damaged) > _NAMED else ""
        return (
            f"{len(self._damaged)} of {len(self._files)} images cannot be read, and "
            f"data.max_damaged is {self._max_damaged}: {', '.join(names)}{more}."
        )
