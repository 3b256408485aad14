"""A small shipped CNN for MNIST, independent of the LeNet of :mod:`.lenet`.

Use it as ``evaluation.auditor``, or as ``evaluation.features`` without LeNet weights. Design,
training and pixel range differ from LeNet; both were trained on MNIST's training images.
Accuracy on the test images: 0.993.
"""

from __future__ import annotations

import torch
from torch import nn

from schedsearch.evaluation.features.packaged import (
    FeatureClassifier,
    PackagedExtractor,
    convolutions,
)

WEIGHTS_FILE = "mnist_cnn.safetensors"
NUM_FEATURES = 64
IMAGE_SIZE = 28
_CHANNELS = (16, 32, 32)


class MnistCNN(FeatureClassifier):
    """Three 3x3 convolutions with batch norm and max pooling, 64 features."""

    def __init__(self) -> None:
        layers = convolutions(1, _CHANNELS)  # 28x28 -> 14x14 -> 7x7 -> 3x3
        super().__init__(nn.Sequential(*layers, nn.Flatten()), _CHANNELS[-1] * 3 * 3, NUM_FEATURES)


def load(device: torch.device | str = "cpu") -> PackagedExtractor:
    """Load the MNIST CNN with its shipped weights.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """
    return PackagedExtractor.load("MNIST CNN", MnistCNN(), WEIGHTS_FILE, IMAGE_SIZE, device)
