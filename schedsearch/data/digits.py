"""Handwritten digits from scikit-learn: real images without a download."""

from __future__ import annotations

import torch

from schedsearch.data.sources import ImagesInMemory


def load_digits() -> ImagesInMemory:
    """Load 1,797 scans of 8x8 pixels in ten classes (UCI, Alpaydin and Kaynak 1998).

    The grey levels 0..16 become uint8 by ``round(255 / 16 * v)``.
    """
    from sklearn.datasets import load_digits as load_from_sklearn

    bunch = load_from_sklearn()
    levels = torch.from_numpy(bunch.images)  # (1797, 8, 8) float64
    images = (levels * (255 / 16)).round().to(torch.uint8)[:, None]
    return ImagesInMemory(images, torch.from_numpy(bunch.target).long(), num_classes=10)
