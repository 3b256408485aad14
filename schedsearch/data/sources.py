"""The protocol of image sources, and images in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from schedsearch.data.pixels import as_pixels, to_float


class ImageSource(Protocol):
    """Real images, for training or as the FID reference."""

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
        """Digest of the images; two FIDs are comparable only if it is equal."""
        ...

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw a training batch with replacement.

        Returns:
            Images, (N, C, H, W) float32 in [-1, 1], or scaled latents; and labels (N,) int64
            or None.
        """
        ...

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield every image once, in order: (n, C, H, W) uint8."""
        ...

    def decode(self, samples: Tensor) -> Tensor:
        """Convert samples of a model to pixels.

        Args:
            samples: Solver output shaped like ``batch``, (n, C, H, W) float, on any device.

        Returns:
            Pixels, (n, C', H', W') float32 on the CPU, nominally in [-1, 1], not clamped.
            Pixel models return the samples, latent models the decoded samples.
        """
        ...

    def verify(self) -> tuple[str, ...]:
        """Check for damage before the first trial, by reading some images.

        Returns:
            Warnings for the user, for example the number of skipped images.

        Raises:
            ConfigError: If there is more damage than the settings allow.
        """
        ...


VERIFIED_PER_CLASS, VERIFIED_IN_ALL = 4, 64
"""Least number of images that the preflight reads, per class and in total."""


def spread_over_classes(labels: Tensor | None, num_images: int) -> list[int]:
    """Return indices of some images per class, evenly spaced from first to last.

    Args:
        labels: Classes, (N,) int64; None counts as one class.
        num_images: Number of images N.
    """
    if labels is None:
        labels = torch.zeros(num_images, dtype=torch.long)
    order = labels.argsort(stable=True)
    counts: list[int] = np.unique(labels.numpy(), return_counts=True)[1].tolist()
    per_class = max(VERIFIED_PER_CLASS, VERIFIED_IN_ALL // len(counts))
    picks: list[int] = []
    for members in torch.split(order, counts):
        rows = np.linspace(0, len(members) - 1, per_class).astype(int)
        picks += members[sorted(set(rows.tolist()))].tolist()
    return picks


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
        """Yield every image once, in order: (n, C, H, W) uint8."""
        yield from torch.split(self.images, batch_size)

    def decode(self, samples: Tensor) -> Tensor:
        """Return the samples, which are pixels; see :class:`ImageSource`."""
        return as_pixels(samples)

    def verify(self) -> tuple[str, ...]:
        """Return no warnings, because the images are already in memory."""
        return ()
