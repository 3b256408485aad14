"""A second opinion on MNIST: a small CNN that ships, independent of the LeNet of :mod:`.lenet`.

Meant as ``evaluation.auditor``; it also serves as ``evaluation.features`` where no LeNet's
weights are at hand. Its design, its training and its pixel range differ from the LeNet's; both
saw MNIST's training images. 0.993 of the test images are named correctly.
"""

from __future__ import annotations

import torch
from torch import nn

from schedsearch.evaluation.features.packaged import FeatureClassifier, PackagedExtractor

WEIGHTS_FILE = "mnist_cnn.safetensors"
NUM_FEATURES = 64
IMAGE_SIZE = 28
_CHANNELS = (16, 32, 32)


class MnistCNN(FeatureClassifier):
    """Three 3x3 convolutions with batch norm and max pooling, 64 features."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        previous = 1
        for channels in _CHANNELS:  # 28x28 -> 14x14 -> 7x7 -> 3x3
            layers += [
                nn.Conv2d(previous, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            previous = channels
        super().__init__(nn.Sequential(*layers, nn.Flatten()), previous * 3 * 3, NUM_FEATURES)


class MnistCNNExtractor(PackagedExtractor):
    """The MNIST CNN with the weights that ship; see :class:`FeatureExtractor`.

    Args:
        device: Where the network runs.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__("MNIST CNN", MnistCNN(), WEIGHTS_FILE, IMAGE_SIZE, device)
