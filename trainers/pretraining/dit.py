"""Trains a DiT from scratch on real images or latents and writes its EMA weights.

This command made the shipped weights:
``python -m trainers.pretraining.dit --data digits --output FILE``.
To resume an interrupted training, run the same command again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TypeVar

from schedsearch.backbones.dit import DiT
from trainers.pretraining.command import add_common_arguments, run_command
from trainers.pretraining.loop import Plan

DEFAULTS = Plan(steps=12_000, batch_size=64, lr=2e-3)
"""Settings of the shipped weights."""

Network = TypeVar("Network", bound=DiT)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; flags of the network have the official names."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.dit", description=__doc__
    )
    add_network_arguments(parser, hidden_size=64, depth=10, patch_size=2, defaults=DEFAULTS)
    return parser


def add_network_arguments(
    parser: argparse.ArgumentParser,
    *,
    hidden_size: int,
    depth: int,
    patch_size: int,
    defaults: Plan,
) -> None:
    """Add the flags of a DiT or SiT, then the common ones.

    Args:
        parser: The command's parser.
        hidden_size: Default width.
        depth: Default number of blocks.
        patch_size: Default side of a patch.
        defaults: Default settings of the training.
    """
    network = parser.add_argument_group("network")
    network.add_argument("--hidden-size", type=int, default=hidden_size)
    network.add_argument("--depth", type=int, default=depth)
    network.add_argument("--num-heads", type=int, default=4)
    network.add_argument("--patch-size", type=int, default=patch_size)
    network.add_argument("--mlp-ratio", type=float, default=4.0)
    add_common_arguments(
        parser, size_flag="--input-size", channels_flag="--in-channels", defaults=defaults
    )


def build_net(
    network: type[Network],
    args: argparse.Namespace,
    shape: tuple[int, int, int],
    num_classes: int,
    null_class: bool,
) -> Network:
    """Build a DiT or SiT from parsed arguments, without a learned variance.

    Args:
        network: Its class.
        args: Parsed arguments.
        shape: Shape (C, H, W) of an image.
        num_classes: Number of classes; 0 builds an unconditional network.
        null_class: Whether to add a label for "no class".
    """
    channels, side, _ = shape
    return network(
        input_size=side,
        patch_size=args.patch_size,
        in_channels=channels,
        hidden_size=args.hidden_size,
        depth=args.depth,
        num_heads=args.num_heads,
        mlp_ratio=args.mlp_ratio,
        class_dropout_prob=args.label_dropout if null_class else 0.0,
        num_classes=num_classes,
        learn_sigma=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write the weights."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)

    def build(shape: tuple[int, int, int], num_classes: int, null_class: bool) -> DiT:
        return build_net(DiT, args, shape, num_classes, null_class)

    return run_command(args, arguments, "trainers.pretraining.dit", build)


if __name__ == "__main__":
    raise SystemExit(main())
