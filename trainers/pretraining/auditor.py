"""Train an extractor that ships as auditor: a second network to compute FID with.

    python -m trainers.pretraining.auditor digits_mlp --output digits_mlp.safetensors
    python -m trainers.pretraining.auditor mnist_cnn --path mnist --output mnist_cnn.safetensors

The digits MLP learns one half of scikit-learn's scans and is tested on the other; the MNIST CNN
learns the 60,000 training images and is tested on the 10,000 others. Equal commands give equal
bytes on one machine, and with them one digest in every protocol.
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
"""Images at once where nothing is learned."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images, (N, 1, H, W) uint8, and their classes, (N,) int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Auditor:
    """How one auditor is trained."""

    network: Callable[[], FeatureClassifier]
    data: str
    """For the header of the file."""
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
    """Two random halves of the images, each class cut in two."""
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
    """Training and test images of an auditor.

    Raises:
        ConfigError: If MNIST has no path or is not there.
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
    """Train on all given images and set the standardisation of the features.

    Args:
        auditor: Which network, and its learning rate.
        data: Training images.
        epochs: Passes over the images.
        seed: Of weights, order of the images and dropout.
    """
    # The layers of torch draw weights and dropout from the global generator only.
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
    """Features before they are standardised, (N, D)."""
    return torch.cat([net.raw_features(chunk) for chunk in torch.split(images, CHUNK)])


def accuracy(net: FeatureClassifier, data: Labelled) -> float:
    """Share of images whose class is named correctly."""
    found = torch.cat([net(chunk).argmax(1) for chunk in torch.split(data.images, CHUNK)])
    return float((found == data.labels).float().mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the test accuracy and write the weights; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.auditor", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("auditor", choices=list(AUDITORS))
    parser.add_argument("--path", type=Path, help="torchvision's root folder, for mnist_cnn")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, help="default: as for the weights that ship")
    parser.add_argument("--seed", type=int, help="default: as for the weights that ship")
    args = parser.parse_args(arguments)

    auditor = AUDITORS[args.auditor]
    epochs = auditor.epochs if args.epochs is None else args.epochs
    seed = auditor.seed if args.seed is None else args.seed
    if epochs < 1:
        parser.error(f"--epochs must be >= 1, got {epochs}")
    torch.set_num_threads(1)
    try:
        learned, tested = load_data(args.auditor, args.path, seed)
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    net = train(auditor, learned, epochs=epochs, seed=seed)
    test_accuracy = accuracy(net, tested)
    features = raw_features(net, learned.images).double()
    rank = int(torch.linalg.matrix_rank(features.T.cov()))
    print(f"accuracy {accuracy(net, learned):.4f} in training, {test_accuracy:.4f} in the test")
    print(f"rank of the features' covariance: {rank} of {features.shape[1]}")
    record = {
        "model": f"{type(net).__module__}:{type(net).__name__}",
        "data": auditor.data,
        "command": f"python -m trainers.pretraining.auditor {args.auditor} --seed {seed} "
        f"--epochs {epochs}",
        "test_accuracy": f"{test_accuracy:.4f}",
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    # One entry, because safetensors writes several in a random order, and with them other bytes.
    save_file(net.state_dict(), args.output, {"training": json.dumps(record)})
    args.output.chmod(0o644)  # safetensors writes 0600, which would end up in the wheel
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
