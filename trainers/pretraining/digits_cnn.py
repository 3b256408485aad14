"""Trains the small CNN whose features FID compares on digits.

    python -m trainers.pretraining.digits_cnn --output digits_cnn.safetensors

Data: scikit-learn's ``load_digits``, 1,797 scans, split 80/20 in every class.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from schedsearch.data.digits import load_digits
from schedsearch.evaluation.features.digits_cnn import DigitsCNN
from trainers.pretraining.classifier import Labelled, accuracy, describe_rank, train, write


def split(data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """Split the images into training and validation, 80/20 in every class."""
    from sklearn.model_selection import train_test_split

    learned, held_out = train_test_split(
        np.arange(len(data.labels)),
        test_size=0.2,
        stratify=data.labels.numpy(),
        random_state=seed,
    )
    return data.rows(torch.from_numpy(learned)), data.rows(torch.from_numpy(held_out))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the validation accuracy and write the weights."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.digits_cnn", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args(arguments)
    if args.epochs < 1:
        parser.error(f"--epochs must be >= 1, got {args.epochs}")
    # Train.
    torch.set_num_threads(1)
    learned, held_out = split(Labelled.of(load_digits()), args.seed)
    net = train(DigitsCNN, learned, epochs=args.epochs, seed=args.seed)
    # Report accuracy and rank.
    validation = accuracy(net, held_out)
    print(f"train accuracy {accuracy(net, learned):.4f}, validation accuracy {validation:.4f}")
    print(describe_rank(net, Labelled.of(load_digits())))
    # Write the weights.
    write(
        net,
        args.output,
        "scikit-learn load_digits, 80/20 by class",
        f"python -m trainers.pretraining.digits_cnn --seed {args.seed} --epochs {args.epochs}",
        validation_accuracy=validation,
    )


if __name__ == "__main__":
    main()
