"""An auditor for 8x8 digits: an MLP independent of the digits CNN.

Use it as ``evaluation.auditor``. A schedule that improves FID by the CNN but not here has
overfitted to the CNN. The MLP has no convolutions and another training split, half of the
scans. Accuracy on the other half: 0.982.
"""

from __future__ import annotations

import torch
from torch import nn

from schedsearch.evaluation.features.packaged import FeatureClassifier, PackagedExtractor

WEIGHTS_FILE = "digits_mlp.safetensors"
NUM_FEATURES = 48
WIDTH = 160
IMAGE_SIZE = 8


class DigitsMLP(FeatureClassifier):
    """Two hidden layers over the 64 pixels, 48 features."""

    def __init__(self) -> None:
        body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(IMAGE_SIZE**2, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, WIDTH),
            nn.GELU(),
        )
        super().__init__(body, WIDTH, NUM_FEATURES)


def load(device: torch.device | str = "cpu") -> PackagedExtractor:
    """Load the digits MLP with its shipped weights.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """
    return PackagedExtractor.load("digits MLP", DigitsMLP(), WEIGHTS_FILE, IMAGE_SIZE, device)
