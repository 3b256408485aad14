"""A second opinion on 8x8 digits: an MLP that shares neither design nor data split with the CNN.

Meant as ``evaluation.auditor``. A schedule that gains by the digits CNN and loses here has
learned the CNN's taste. It has no convolutions, and its training images are one half of the
scans by a split of its own; 0.982 of the other half are named correctly.
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


class DigitsMLPExtractor(PackagedExtractor):
    """The digits MLP with the weights that ship; see :class:`FeatureExtractor`.

    Args:
        device: Where the network runs.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__("digits MLP", DigitsMLP(), WEIGHTS_FILE, IMAGE_SIZE, device)
