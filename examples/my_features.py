"""Your own features for FID: principal components of the real images.

A search space names them as ``features: my_features:PrincipalComponents``, with the real images
as ``features_path``. The tool creates ``Class(features_path, device)`` and reads ``name``,
``dim`` and ``sha256`` (``schedsearch.evaluation.features``). Principal components are good enough
for tiny images; use ``inception`` for photographs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class PrincipalComponents:
    """Projections on the leading principal components, each with variance 1."""

    name = "24 principal components"
    dim = 24

    def __init__(self, features_path: str, device: torch.device) -> None:
        content = Path(features_path).read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()  # equal digests: comparable FIDs
        with np.load(features_path, allow_pickle=False) as archive:
            pixels = torch.from_numpy(archive["images"]).flatten(1).double()
        self.mean = pixels.mean(0)
        values, vectors = torch.linalg.eigh((pixels - self.mean).T.cov())
        leading = slice(-self.dim, None)
        self.projection = vectors[:, leading] / values[leading].sqrt()

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features: images (N, C, H, W) uint8 -> (N, 24) float32."""
        # NOTE: The archive has channels last, which is the same for one channel.
        pixels = images.cpu().flatten(1).double()
        return ((pixels - self.mean) @ self.projection).float()
