"""Extractors with shipped weights: classifiers and their penultimate layer.

Features are taken *before* the last ReLU and standardised on the training images. After the
ReLU many features are always zero, so their covariance would be singular.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Self

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from schedsearch.exceptions import CheckpointError


class FeatureClassifier(nn.Module):
    """A classifier with standardised features; subclasses build the layers.

    The buffers ``feature_mean`` and ``feature_std``, (D,), are saved with the weights, so FID
    has a fixed scale.

    Args:
        body: Maps images in [-1, 1], (N, C, H, W), to vectors, (N, width).
        width: Size of those vectors.
        num_features: Number of features D.
        num_classes: Number of classes.
        dropout: Dropout rate before the last layer, in training.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        body: nn.Module,
        width: int,
        num_features: int,
        *,
        num_classes: int = 10,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.body = body
        self.penultimate = nn.Linear(width, num_features)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, num_classes)
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_std", torch.ones(num_features))

    def raw_features(self, images: Tensor) -> Tensor:
        """Compute pre-ReLU features: images (N, C, H, W) uint8 -> (N, D) float32."""
        features: Tensor = self.penultimate(self.body(images.float() / 127.5 - 1.0))
        return features

    def features(self, images: Tensor) -> Tensor:
        """Compute standardised features: images (N, C, H, W) uint8 -> (N, D) float32."""
        return (self.raw_features(images) - self.feature_mean) / self.feature_std

    def forward(self, images: Tensor) -> Tensor:
        """Compute class logits: images (N, C, H, W) uint8 -> (N, num_classes)."""
        logits: Tensor = self.head(self.dropout(F.relu(self.raw_features(images))))
        return logits


def convolutions(channels: int, widths: Sequence[int]) -> list[nn.Module]:
    """3x3 convolutions with batch norm and ReLU; each halves the side, rounding down."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = width
    return layers


class PackagedExtractor:
    """A trained classifier of small images; see :class:`FeatureExtractor`.

    Args:
        name: Name shown to people.
        net: The network with its weights; it is frozen and moved to the device.
        sha256: Digest of the weights file.
        image_size: Height and width of the images.
        device: Device of the network.
        channels: Channels of the images.
    """

    def __init__(
        self,
        name: str,
        net: FeatureClassifier,
        sha256: str,
        image_size: int,
        device: torch.device | str,
        channels: int = 1,
    ) -> None:
        self.name = name
        self.dim = len(net.feature_mean)
        self.sha256 = sha256
        self.device = torch.device(device)
        self._shape = (channels, image_size, image_size)
        self._net = net.eval().requires_grad_(False).to(self.device)

    @classmethod
    def load(
        cls,
        name: str,
        net: FeatureClassifier,
        weights_file: str,
        image_size: int,
        device: torch.device | str,
        channels: int = 1,
    ) -> Self:
        """Load shipped weights.

        Args:
            name: Name shown to people.
            net: The network, which receives the weights.
            weights_file: File in ``schedsearch.pretrained``.
            image_size: Height and width of the images.
            device: Device of the network.
            channels: Channels of the images.

        Raises:
            CheckpointError: If the package's weights are missing or damaged.
        """
        try:
            data = (resources.files("schedsearch.pretrained") / weights_file).read_bytes()
            net.load_state_dict(load(data))
        except Exception as error:  # NOTE: SafetensorError derives from Exception only
            raise CheckpointError(
                f"The package's own {weights_file} cannot be read ({error}). Reinstall "
                "schedsearch."
            ) from error
        return cls(name, net, hashlib.sha256(data).hexdigest(), image_size, device, channels)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute standardised features: images (N, C, H, W) uint8 -> (N, D) float32."""
        with torch.inference_mode():
            return self._net.features(self._checked(images))

    def classify(self, images: Tensor) -> Tensor:
        """Compute class logits: images (N, C, H, W) uint8 -> (N, num_classes) float32."""
        with torch.inference_mode():
            logits: Tensor = self._net(self._checked(images))
        return logits

    def _checked(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.shape[1:] != self._shape:
            wanted = ", ".join(map(str, self._shape))
            raise ValueError(
                f"The {self.name} takes uint8 images of shape (N, {wanted}), but got "
                f"{images.dtype} {tuple(images.shape)}. Choose other evaluation.features."
            )
        return images.to(self.device)
