"""Features of 8x8 digits: the penultimate layer of a small shipped CNN."""

from __future__ import annotations

import torch
from torch import nn

from schedsearch.evaluation.features.packaged import FeatureClassifier, PackagedExtractor

WEIGHTS_FILE = "digits_cnn.safetensors"
NUM_FEATURES = 64
IMAGE_SIZE = 8


class DigitsCNN(FeatureClassifier):
    """Three convolutions and two linear layers; classifies scans of handwritten digits."""

    def __init__(self, dropout: float = 0.3) -> None:
        body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 8x8 -> 4x4
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 4x4 -> 2x2
            nn.Flatten(),
        )
        super().__init__(body, 64 * 2 * 2, NUM_FEATURES, dropout=dropout)


def load(device: torch.device | str = "cpu") -> PackagedExtractor:
    """Load the digits CNN with its shipped weights.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """
    return PackagedExtractor.load("digits CNN", DigitsCNN(), WEIGHTS_FILE, IMAGE_SIZE, device)
