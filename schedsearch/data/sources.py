"""Image sources: what every source offers, and images held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from schedsearch.data.pixels import to_float


class ImageSource(Protocol):
    """Real images, for training and as the reference of FID."""

    @property
    def num_images(self) -> int:
        """Number of images."""
        ...

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None without labels."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest that changes when the images do; part of what makes two FIDs comparable."""
        ...

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images with replacement, (N, C, H, W) float32 in [-1, 1], and labels (N,)."""
        ...

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, in order: (n, C, H, W) uint8."""
        ...

    def verify(self) -> None:
        """Read enough to find damage before the first trial.

        Raises:
            ConfigError: If an image cannot be read.
        """
        ...


class ImagesInMemory:
    """Images that fit into memory.

    Args:
        images: Pixels, (N, C, H, W) uint8.
        labels: Classes, (N,) int64, or None.
        num_classes: Number of classes; None without labels.
    """

    def __init__(self, images: Tensor, labels: Tensor | None, num_classes: int | None) -> None:
        self.images = images.contiguous()
        self.labels = labels
        self._num_classes = num_classes

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None without labels."""
        return self._num_classes

    @property
    def fingerprint(self) -> str:
        """Digest of shape, pixels and labels."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images with replacement, (N, C, H, W) float32 in [-1, 1], and labels (N,)."""
        chosen = torch.randint(len(self.images), (size,), generator=generator)
        return to_float(self.images[chosen]), None if self.labels is None else self.labels[chosen]

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, in order: (n, C, H, W) uint8."""
        yield from torch.split(self.images, batch_size)

    def verify(self) -> None:
        """Nothing left to find: the images are in memory."""
