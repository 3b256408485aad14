"""Trains a shipped auditor, a second extractor to compute FID with.

    python -m trainers.pretraining.auditor digits_mlp --output digits_mlp.safetensors
    python -m trainers.pretraining.auditor mnist_cnn --path mnist --output mnist_cnn.safetensors

Data: halves of scikit-learn's scans for training and test, or MNIST's training and test images.
Equal commands give equal bytes, and so equal digests, on one machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from schedsearch.data.digits import load_digits
from schedsearch.data.mnist import load_mnist
from schedsearch.data.sources import ImagesInMemory
from schedsearch.evaluation.features.digits_mlp import DigitsMLP
from schedsearch.evaluation.features.mnist_cnn import MnistCNN
from schedsearch.evaluation.features.packaged import FeatureClassifier
from schedsearch.exceptions import ConfigError, SchedSearchError

BATCH_SIZE = 64
CHUNK = 2000
"""Images per forward pass in evaluation."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (N, 1, H, W) uint8 with their classes (N,) int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Auditor:
    """Network and training settings of one auditor."""

    network: Callable[[], FeatureClassifier]
    data: str
    """Description for the header of the file."""
    epochs: int
    lr: float
    seed: int


AUDITORS = {
    "digits_mlp": Auditor(
        DigitsMLP, "scikit-learn load_digits, halves by class", 100, 3e-3, seed=1
    ),
    "mnist_cnn": Auditor(MnistCNN, "MNIST, 60,000 training images", 3, 3e-3, seed=1),
}


def halves(data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """Split the images into two random halves, class by class."""
    rng = np.random.default_rng(seed)
    first: list[int] = []
    second: list[int] = []
    for label in sorted(set(data.labels.tolist())):
        rows = rng.permutation(torch.nonzero(data.labels == label).flatten().numpy())
        first += rows[: len(rows) // 2].tolist()
        second += rows[len(rows) // 2 :].tolist()
    return (
        Labelled(data.images[first], data.labels[first]),
        Labelled(data.images[second], data.labels[second]),
    )


def load_data(name: str, path: Path | None, seed: int) -> tuple[Labelled, Labelled]:
    """Load training and test images of an auditor.

    Raises:
        ConfigError: If MNIST has no path or cannot be found.
    """
    if name == "digits_mlp":
        return halves(_labelled(load_digits()), seed)
    if path is None:
        raise ConfigError(f"{name} needs --path, torchvision's root folder of MNIST.")
    return _labelled(load_mnist(path)), _labelled(load_mnist(path, train=False))


def _labelled(source: ImagesInMemory) -> Labelled:
    if source.labels is None:
        raise ConfigError("An auditor learns classes, but the images have no labels.")
    return Labelled(source.images, source.labels)


def train(auditor: Auditor, data: Labelled, *, epochs: int, seed: int) -> FeatureClassifier:
    """Train on all given images and standardise the features on them.

    Args:
        auditor: Network and learning rate.
        data: Training images.
        epochs: Number of epochs.
        seed: Seed of weights, order of images and dropout.
    """
    # NOTE: torch's layers draw weights and dropout from the global generator only.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = auditor.network()
        optimizer = torch.optim.AdamW(net.parameters(), lr=auditor.lr, weight_decay=0.01)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the test accuracy, write the weights, and return the exit code."""
    # Parse the arguments.
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.auditor", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("auditor", choices=list(AUDITORS))
    parser.add_argument("--path", type=Path, help="torchvision's root folder, for mnist_cnn")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, help="default: as for the shipped weights")
    parser.add_argument("--seed", type=int, help="default: as for the shipped weights")
    args = parser.parse_args(arguments)

    auditor = AUDITORS[args.auditor]
    epochs = auditor.epochs if args.epochs is None else args.epochs
    seed = auditor.seed if args.seed is None else args.seed
    if epochs < 1:
        parser.error(f"--epochs must be >= 1, got {epochs}")
    # Train.
    torch.set_num_threads(1)
    try:
        learned, tested = load_data(args.auditor, args.path, seed)
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    net = train(auditor, learned, epochs=epochs, seed=seed)
    # Report accuracy and rank.
    test_accuracy = accuracy(net, tested)
    features = raw_features(net, learned.images).double()
    rank = int(torch.linalg.matrix_rank(features.T.cov()))
    print(f"accuracy {accuracy(net, learned):.4f} in training, {test_accuracy:.4f} in the test")
    print(f"rank of the features' covariance: {rank} of {features.shape[1]}")
    # Write the weights.
    record = {
        "model": f"{type(net).__module__}:{type(net).__name__}",
        "data": auditor.data,
        "command": f"python -m trainers.pretraining.auditor {args.auditor} --seed {seed} "
        f"--epochs {epochs}",
        "test_accuracy": f"{test_accuracy:.4f}",
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    # NOTE: One entry, because safetensors writes several in random order.
    save_file(net.state_dict(), args.output, {"training": json.dumps(record)})
    args.output.chmod(0o644)  # NOTE: safetensors writes mode 0600, which a wheel would keep
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
