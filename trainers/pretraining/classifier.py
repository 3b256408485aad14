"""Trains the classifiers behind shipped extractors; shared by their two commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from schedsearch.data.sources import ImagesInMemory
from schedsearch.evaluation.features.packaged import FeatureClassifier
from schedsearch.exceptions import ConfigError

BATCH_SIZE = 64
LEARNING_RATE = 3e-3
CHUNK = 2000
"""Images per forward pass in evaluation."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (N, C, H, W) uint8 with their classes (N,) int64."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, source: ImagesInMemory) -> Labelled:
        """Take images and labels of a source.

        Raises:
            ConfigError: If there are no labels.
        """
        if source.labels is None:
            raise ConfigError("A classifier learns classes, but the images have no labels.")
        return cls(source.images, source.labels)

    def rows(self, rows: Tensor) -> Labelled:
        """Select images by index, (n,) int64."""
        return Labelled(self.images[rows], self.labels[rows])


def train(
    network: Callable[[], FeatureClassifier], data: Labelled, *, epochs: int, seed: int
) -> FeatureClassifier:
    """Train on all given images and standardise the features on them.

    Args:
        network: Builds the network.
        data: Training images.
        epochs: Number of epochs, at least 1.
        seed: Seed of weights, order of images and dropout.
    """
    # NOTE: torch's layers draw weights and dropout from the global generator only.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network()
        optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
        steps_per_epoch = len(data.images) // BATCH_SIZE
        lr_schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, epochs * steps_per_epoch
        )
        for _ in range(epochs):
            order = torch.randperm(len(data.images))
            for start in range(0, steps_per_epoch * BATCH_SIZE, BATCH_SIZE):
                rows = order[start : start + BATCH_SIZE]
                scores = net(data.images[rows])
                loss = F.cross_entropy(scores, data.labels[rows], label_smoothing=0.05)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                lr_schedule.step()
    net.eval().requires_grad_(False)
    features = raw_features(net, data.images)
    net.feature_mean.copy_(features.mean(0))
    net.feature_std.copy_(features.std(0))
    return net


def raw_features(net: FeatureClassifier, images: Tensor) -> Tensor:
    """Compute features before standardisation, (N, D)."""
    return torch.cat([net.raw_features(chunk) for chunk in torch.split(images, CHUNK)])


def accuracy(net: FeatureClassifier, data: Labelled) -> float:
    """Return the share of correctly classified images."""
    found = torch.cat([net(chunk).argmax(1) for chunk in torch.split(data.images, CHUNK)])
    return float((found == data.labels).float().mean())


def describe_rank(net: FeatureClassifier, data: Labelled) -> str:
    """Say whether the covariance of the features is singular."""
    features = raw_features(net, data.images).double()
    rank = int(torch.linalg.matrix_rank(features.T.cov()))
    return f"rank of the features' covariance: {rank} of {features.shape[1]}"


def write(net: FeatureClassifier, path: Path, data: str, command: str, **figures: float) -> None:
    """Write the weights with their origin; equal commands give equal bytes.

    Args:
        net: The trained network.
        path: Safetensors file to write.
        data: Description of the training images.
        command: Command that trained it.
        **figures: Accuracies by name.
    """
    record = {
        "model": f"{type(net).__module__}:{type(net).__name__}",
        "data": data,
        "command": command,
        **{name: f"{value:.4f}" for name, value in figures.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # NOTE: One entry, because safetensors writes several in random order.
    save_file(net.state_dict(), path, {"training": json.dumps(record)})
    path.chmod(0o644)  # NOTE: safetensors writes mode 0600, which a wheel would keep
    print(f"wrote {path}")
