"""Random mirroring of training images, around any source of pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from schedsearch.data.sources import ImageSource


class Mirrored:
    """A source whose training batches hold every second image mirrored, left to right.

    The coins are tossed after the draws of the source, from the same generator. The reference
    of FID stays as it is, and so does the fingerprint.

    Args:
        source: Pixels; the mirror image of a latent does not decode to a mirrored image.
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    @property
    def num_images(self) -> int:
        """Number of images, not counting mirror images."""
        return self._source.num_images

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None without labels."""
        return self._source.num_classes

    @property
    def fingerprint(self) -> str:
        """Digest of the images as they are."""
        return self._source.fingerprint

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw images with replacement, (N, C, H, W) float32 in [-1, 1], and labels (N,)."""
        images, labels = self._source.batch(size, generator)
        coins = torch.rand(size, generator=generator) < 0.5
        return torch.where(coins[:, None, None, None], images.flip(3), images), labels

    def uint8_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, unmirrored, in order: (n, C, H, W) uint8."""
        return self._source.uint8_batches(batch_size)

    def decode(self, samples: Tensor) -> Tensor:
        """Pixels of a solver's output, see :class:`ImageSource`."""
        return self._source.decode(samples)

    def verify(self) -> tuple[str, ...]:
        """Read enough to find damage, see :class:`ImageSource`."""
        return self._source.verify()
