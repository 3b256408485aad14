"""Features of MNIST: the layer of width 84 in a LeNet-5, from your weights file.

The architecture is that of jordanhoare/digit-drawing-prediction (MIT), whose ``lenet.pth`` has
test accuracy 0.9919. Any state dict of the same shape works. Features are taken *before* the
ReLU; after it two are always zero, so their covariance would be singular. Their scale depends on
the weights, so FIDs compare only within one weights file.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.files.content import kind_of

NUM_FEATURES = 84
NUM_CLASSES = 10
IMAGE_SIZE = 28


class LeNet(nn.Sequential):
    """LeNet-5 (LeCun et al., 1998) with ReLU and average pooling; input in [0, 1]."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(2),  # 28x28 -> 14x14
            nn.Conv2d(6, 16, 5),  # -> 10x10
            nn.ReLU(),
            nn.AvgPool2d(2),  # -> 5x5
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, NUM_FEATURES),
            nn.ReLU(),
            nn.Linear(NUM_FEATURES, NUM_CLASSES),
        )

    def features(self, images: Tensor) -> Tensor:
        """Compute pre-ReLU features: images (N, 1, 28, 28) uint8 -> (N, 84) float32."""
        x = images.float() / 255
        for layer in list(self)[:-2]:
            x = layer(x)
        return x

    def logits(self, images: Tensor) -> Tensor:
        """Compute class logits: images (N, 1, 28, 28) uint8 -> (N, 10) float32."""
        logits: Tensor = self(images.float() / 255)
        return logits


class LeNetExtractor:
    """A trained LeNet; see :class:`FeatureExtractor`.

    Args:
        net: The network with its weights; it is frozen and moved to the device.
        sha256: Digest of the weights file.
        device: Device of the network.
    """

    name = "MNIST LeNet"
    dim = NUM_FEATURES

    def __init__(self, net: LeNet, sha256: str, device: torch.device | str) -> None:
        self.sha256 = sha256
        self.device = torch.device(device)
        self._net = net.eval().requires_grad_(False).to(self.device)

    @classmethod
    def load(cls, features_path: str | None, device: torch.device | str = "cpu") -> Self:
        """Load weights from a file.

        Args:
            features_path: A state dict as ``.safetensors``, or as a torch file, which is read
                with ``weights_only=True``.
            device: Device of the network.

        Raises:
            ConfigError: If the path is None or the file cannot be read.
            CheckpointError: If the file holds anything but weights of this architecture.
        """
        if features_path is None:
            raise ConfigError(
                "features: lenet needs evaluation.features_path, a LeNet's state dict, for "
                "example lenet.pth of github.com/jordanhoare/digit-drawing-prediction."
            )
        path = Path(features_path)
        try:
            found, data = kind_of(path), path.read_bytes()
        except OSError as error:
            raise ConfigError(f"Cannot read the LeNet weights {path}: {error}.") from error
        if found is not None:
            raise CheckpointError(f"{path} is {found[0]}, not LeNet weights. {found[1]}.")
        return cls(_read(data, path), hashlib.sha256(data).hexdigest(), device)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute pre-ReLU features: images (N, 1, 28, 28) uint8 -> (N, 84) float32."""
        with torch.inference_mode():
            return self._net.features(self._checked(images))

    def classify(self, images: Tensor) -> Tensor:
        """Compute class logits: images (N, 1, 28, 28) uint8 -> (N, 10) float32."""
        with torch.inference_mode():
            return self._net.logits(self._checked(images))

    def _checked(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.shape[1:] != (1, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                "The MNIST LeNet takes uint8 images of shape (N, 1, 28, 28), but got "
                f"{images.dtype} {tuple(images.shape)}. Choose other evaluation.features."
            )
        return images.to(self.device)


def _read(data: bytes, path: Path) -> LeNet:
    net = LeNet()
    try:
        if path.suffix == ".safetensors":
            state = load_safetensors(data)
        else:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        net.load_state_dict(state)
    except (RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"{path} is not the state dict of a LeNet: {error}") from error
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not hold a state dict: {error}") from error
    return net
