"""Features of 8x8 digits: the penultimate layer of a small CNN that ships with the package.

The features are taken *before* the ReLU and standardised on the training images. After the
ReLU many are always zero, so their covariance is singular and FID nearly blind to them.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from schedsearch.exceptions import CheckpointError

WEIGHTS_FILE = "digits_cnn.safetensors"
NUM_FEATURES = 64
NUM_CLASSES = 10
IMAGE_SIZE = 8


class DigitsCNN(nn.Module):
    """Three convolutions and two linear layers; classifies scans of handwritten digits.

    Buffers ``feature_mean`` and ``feature_std``, (64,), standardise the features and travel
    with the weights, so FID has one scale everywhere.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.body = nn.Sequential(
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
        self.penultimate = nn.Linear(64 * 2 * 2, NUM_FEATURES)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, NUM_CLASSES)
        self.register_buffer("feature_mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("feature_std", torch.ones(NUM_FEATURES))

    def raw_features(self, images: Tensor) -> Tensor:
        """Pre-ReLU features: images (N, 1, 8, 8) uint8 -> (N, 64) float32."""
        features: Tensor = self.penultimate(self.body(images.float() / 127.5 - 1.0))
        return features

    def features(self, images: Tensor) -> Tensor:
        """Standardised pre-ReLU features: images (N, 1, 8, 8) uint8 -> (N, 64) float32."""
        return (self.raw_features(images) - self.feature_mean) / self.feature_std

    def forward(self, images: Tensor) -> Tensor:
        """Class logits: images (N, 1, 8, 8) uint8 -> (N, 10)."""
        logits: Tensor = self.head(self.dropout(F.relu(self.raw_features(images))))
        return logits


class DigitsExtractor:
    """The digits CNN with the weights that ship; see :class:`FeatureExtractor`.

    Args:
        device: Where the network runs.

    Raises:
        CheckpointError: If the package's weights are missing or damaged.
    """

    name = "digits CNN"
    dim = NUM_FEATURES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        weights = resources.files("schedsearch.pretrained") / WEIGHTS_FILE
        try:
            data = weights.read_bytes()
            net = DigitsCNN()
            net.load_state_dict(load(data))
        except Exception as error:  # safetensors has an exception class of its own
            raise CheckpointError(
                f"The package's own {WEIGHTS_FILE} cannot be read ({error}). Reinstall "
                "schedsearch."
            ) from error
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.device = torch.device(device)
        self._net = net.eval().requires_grad_(False).to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """Standardised features: images (N, 1, 8, 8) uint8 -> (N, 64) float32."""
        with torch.inference_mode():
            return self._net.features(self._checked(images))

    def classify(self, images: Tensor) -> Tensor:
        """Class logits: images (N, 1, 8, 8) uint8 -> (N, 10) float32."""
        with torch.inference_mode():
            logits: Tensor = self._net(self._checked(images))
        return logits

    def _checked(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.shape[1:] != (1, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                "The digits CNN takes uint8 images of shape (N, 1, 8, 8), but got "
                f"{images.dtype} {tuple(images.shape)}. Choose other evaluation.features."
            )
        return images.to(self.device)
