"""Random horizontal flips of training images, for any source of pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from schedsearch.data.sources import ImageSource


class Mirrored:
    """A source that flips each training image with probability 1/2.

    The flips are drawn after the images, from the same generator. FID reference and fingerprint
    do not change.

    Args:
        source: Source of pixels. Latents must not be flipped, because a flipped latent does not
            decode to a flipped image.
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    @property
    def num_images(self) -> int:
        """Number of images, without their flipped copies."""
        return self._source.num_images

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None without labels."""
        return self._source.num_classes

    @property
    def labels(self) -> Tensor | None:
        """Classes, (N,) int64, where the source holds them in memory."""
        return getattr(self._source, "labels", None)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, where the source knows them."""
        return list(getattr(self._source, "classes", []))

    @property
    def fingerprint(self) -> str:
        """Digest of the images without flips."""
        return self._source.fingerprint

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images with replacement, (N, C, H, W) float32 in [-1, 1], and labels (N,)."""
        images, labels = self._source.batch(size, generator)
        coins = torch.rand(size, generator=generator) < 0.5
        return torch.where(coins[:, None, None, None], images.flip(3), images), labels

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield every image once, in order and not flipped: (n, C, H, W) uint8."""
        return self._source.uint8_batches(batch_size)

    def decode(self, samples: Tensor) -> Tensor:
        """Convert samples to pixels; see :class:`ImageSource`."""
        return self._source.decode(samples)

    def verify(self) -> tuple[str, ...]:
        """Check for damage; see :class:`ImageSource`."""
        return self._source.verify()
