"""Trains a shipped extractor or auditor, a second extractor to compute FID with.

    python -m trainers.pretraining.auditor digits_mlp --output digits_mlp.safetensors
    python -m trainers.pretraining.auditor mnist_cnn --path mnist --output mnist_cnn.safetensors
    python -m trainers.pretraining.auditor tiles_cnn --path tiles --output tiles_cnn.safetensors

Data: halves of scikit-learn's scans for training and test, MNIST's training and test images, or
the folder of ``python -m trainers.pretraining.tiles`` (``tiles_cnn`` and ``tiles_resnet``).
Equal commands give equal bytes, and so equal digests, on one machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from schedsearch.data.digits import load_digits
from schedsearch.data.mnist import load_mnist
from schedsearch.data.npz import load_npz
from schedsearch.evaluation.features.digits_mlp import DigitsMLP
from schedsearch.evaluation.features.mnist_cnn import MnistCNN
from schedsearch.evaluation.features.packaged import FeatureClassifier
from schedsearch.evaluation.features.tiles_cnn import IMAGE_SIZE, TilesCNN
from schedsearch.evaluation.features.tiles_resnet import TilesResNet
from schedsearch.exceptions import ConfigError, SchedSearchError
from trainers.pretraining.classifier import Labelled, accuracy, describe_rank, train, write
from trainers.pretraining.tiles import TEST, TRAIN


@dataclass(frozen=True, slots=True)
class Auditor:
    """Network and training settings of one auditor."""

    network: Callable[[], FeatureClassifier]
    data: str
    """Description for the header of the file."""
    epochs: int
    seed: int


AUDITORS = {
    "digits_mlp": Auditor(DigitsMLP, "scikit-learn load_digits, halves by class", 100, seed=1),
    "mnist_cnn": Auditor(MnistCNN, "MNIST, 60,000 training images", 3, seed=1),
    "tiles_cnn": Auditor(TilesCNN, "Dungeon Crawl tiles (CC0), training images", 20, seed=0),
    "tiles_resnet": Auditor(TilesResNet, "Dungeon Crawl tiles (CC0), training images", 30, seed=1),
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
    return data.rows(torch.tensor(first)), data.rows(torch.tensor(second))


def load_data(name: str, path: Path | None, seed: int) -> tuple[Labelled, Labelled]:
    """Load training and test images of an auditor.

    Raises:
        ConfigError: If a path is missing or leads to no such images.
    """
    if name == "digits_mlp":
        return halves(Labelled.of(load_digits()), seed)
    if path is None:
        wanted = "torchvision's root folder of MNIST"
        if name != "mnist_cnn":
            wanted = "the folder that `python -m trainers.pretraining.tiles` writes"
        raise ConfigError(f"{name} needs --path, {wanted}.")
    if name != "mnist_cnn":
        shape = (3, IMAGE_SIZE, IMAGE_SIZE)
        learned, tested = (Labelled.of(load_npz(path / file, shape)) for file in (TRAIN, TEST))
        return learned, tested
    return Labelled.of(load_mnist(path)), Labelled.of(load_mnist(path, train=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the test accuracy, write the weights, and return the exit code."""
    # Parse the arguments.
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.auditor", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("auditor", choices=list(AUDITORS))
    parser.add_argument(
        "--path", type=Path, help="torchvision's root folder, or the folder of split tiles"
    )
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
    net = train(auditor.network, learned, epochs=epochs, seed=seed)
    # Report accuracy and rank.
    test_accuracy = accuracy(net, tested)
    print(f"accuracy {accuracy(net, learned):.4f} in training, {test_accuracy:.4f} in the test")
    print(describe_rank(net, learned))
    # Write the weights.
    write(
        net,
        args.output,
        auditor.data,
        f"python -m trainers.pretraining.auditor {args.auditor} --seed {seed} --epochs {epochs}",
        test_accuracy=test_accuracy,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
