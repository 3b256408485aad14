"""Features for FID on images that no shipped extractor knows: principal components.

Named in a search space as ``features: my_features:PrincipalComponents`` with
``features_path`` naming the real images; the tool creates it as ``Class(features_path, device)``
and asks for ``name``, ``dim`` and ``sha256`` (``schedsearch.evaluation.features``). Good enough
for tiny images; for photographs take ``inception``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class PrincipalComponents:
    """Projections on the leading principal components of the real images, each of variance 1."""

    name = "24 principal components"
    dim = 24

    def __init__(self, features_path: str, device: torch.device) -> None:
        content = Path(features_path).read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()  # equal files, comparable numbers
        with np.load(features_path, allow_pickle=False) as archive:
            pixels = torch.from_numpy(archive["images"]).flatten(1).double()
        self.mean = pixels.mean(0)
        values, vectors = torch.linalg.eigh((pixels - self.mean).T.cov())
        leading = slice(-self.dim, None)
        self.projection = vectors[:, leading] / values[leading].sqrt()

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) uint8 -> (N, 24) float32."""
        # The archive keeps channels last; with one channel both orders are the same.
        pixels = images.cpu().flatten(1).double()
        return ((pixels - self.mean) @ self.projection).float()
