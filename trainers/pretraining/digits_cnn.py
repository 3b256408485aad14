"""Trains the small CNN whose features FID compares on digits.

    python -m trainers.pretraining.digits_cnn --output digits_cnn.safetensors

Data: scikit-learn's ``load_digits``, 1,797 scans, split 80/20 in every class.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from schedsearch.evaluation.features.digits_cnn import DigitsCNN


def load_images() -> tuple[Tensor, Tensor]:
    """Load all digits: images (1797, 1, 8, 8) uint8, and labels (1797,).

    Grey levels v in 0..16 become ``round(v * 255 / 16)``.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * 255.0 / 16.0).astype(np.uint8)
    return torch.from_numpy(images)[:, None], torch.from_numpy(digits.target).long()


def split(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return indices of training and validation images, 80/20 in every class."""
    from sklearn.model_selection import train_test_split

    train, val = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=seed
    )
    return torch.from_numpy(train), torch.from_numpy(val)


def train(
    images: Tensor, labels: Tensor, *, seed: int, num_epochs: int = 60, batch_size: int = 64
) -> DigitsCNN:
    """Train on all given images and standardise the features on them.

    Args:
        images: Training images, (N, 1, 8, 8) uint8.
        labels: Their classes, (N,) int64.
        seed: Seed of weights, order of images and dropout.
        num_epochs: Number of epochs.
        batch_size: Images per step.
    """
    # NOTE: torch's layers draw weights and dropout from the global generator only.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DigitsCNN()
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
        steps_per_epoch = len(images) // batch_size
        lr_schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, num_epochs * steps_per_epoch
        )
        for _ in range(num_epochs):
            order = torch.randperm(len(images))
            for start in range(0, steps_per_epoch * batch_size, batch_size):
                rows = order[start : start + batch_size]
                loss = F.cross_entropy(net(images[rows]), labels[rows], label_smoothing=0.05)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                lr_schedule.step()
    net.eval().requires_grad_(False)
    features = net.raw_features(images)
    net.feature_mean.copy_(features.mean(0))
    net.feature_std.copy_(features.std(0))
    return net


def accuracy(net: DigitsCNN, images: Tensor, labels: Tensor) -> float:
    """Return the share of correctly classified images."""
    return float((net(images).argmax(1) == labels).float().mean())


def main() -> None:
    """Train, print the validation accuracy and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args()

    # Train.
    images, labels = load_images()
    train_rows, val_rows = split(labels, args.seed)
    net = train(images[train_rows], labels[train_rows], seed=args.seed, num_epochs=args.epochs)
    # Report accuracy and rank.
    train_accuracy = accuracy(net, images[train_rows], labels[train_rows])
    val_accuracy = accuracy(net, images[val_rows], labels[val_rows])
    features = net.features(images).double()
    rank = int(torch.linalg.matrix_rank(features.T.cov()))
    print(f"train accuracy {train_accuracy:.4f}, validation accuracy {val_accuracy:.4f}")
    print(f"rank of the features' covariance: {rank} of {features.shape[1]}")
    # Write the weights.
    record = {
        "model": "schedsearch.evaluation.features.digits_cnn:DigitsCNN",
        "data": "scikit-learn load_digits, 80/20 by class",
        "command": f"python -m trainers.pretraining.digits_cnn --seed {args.seed} "
        f"--epochs {args.epochs}",
        "validation_accuracy": f"{val_accuracy:.4f}",
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    # NOTE: One entry, because safetensors writes several in random order. So equal commands
    # give equal bytes and equal digests.
    save_file(net.state_dict(), args.output, {"training": json.dumps(record)})
    args.output.chmod(0o644)  # NOTE: safetensors writes mode 0600, which a wheel would keep
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
