"""The shipped CNN whose features FID compares on 32 x 32 colour tiles.

It was trained on the tiles that ``python -m trainers.pretraining.tiles`` takes for training.
"""

from __future__ import annotations

import torch
from torch import nn

from schedsearch.evaluation.features.packaged import (
    FeatureClassifier,
    PackagedExtractor,
    convolutions,
)

WEIGHTS_FILE = "tiles_cnn.safetensors"
NUM_FEATURES = 64
NUM_CLASSES = 5
IMAGE_SIZE = 32
_CHANNELS = (16, 32, 48)


class TilesCNN(FeatureClassifier):
    """Three 3x3 convolutions with batch norm and max pooling, 64 features."""

    def __init__(self) -> None:
        layers = convolutions(3, _CHANNELS)  # 32x32 -> 16x16 -> 8x8 -> 4x4
        body = nn.Sequential(*layers, nn.Flatten())
        super().__init__(body, _CHANNELS[-1] * 4 * 4, NUM_FEATURES, num_classes=NUM_CLASSES)


def load(device: torch.device | str = "cpu") -> PackagedExtractor:
    """Load the tiles CNN with its shipped weights.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """
    return PackagedExtractor.load(
        "tiles CNN", TilesCNN(), WEIGHTS_FILE, IMAGE_SIZE, device, channels=3
    )
