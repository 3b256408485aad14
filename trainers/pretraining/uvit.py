"""Trains a U-ViT from scratch on real images or latents and writes its EMA weights.

The default network is for MNIST, which is also the default data. DIR is torchvision's folder::

    python -m trainers.pretraining.uvit --data mnist --path DIR --prediction v --output FILE

To resume an interrupted training, run the same command again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from schedsearch.backbones.uvit import UViT
from trainers.pretraining.command import add_common_arguments, run_command
from trainers.pretraining.loop import Plan

DEFAULTS = Plan(steps=18_000, batch_size=64, lr=2e-3)
"""Our settings for small networks; the U-ViT paper uses 500K steps at 2e-4."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; flags of the network have the official names."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.uvit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    network = parser.add_argument_group("network")
    network.add_argument("--embed-dim", type=int, default=96)
    network.add_argument("--depth", type=int, default=12, help="encoder and decoder blocks")
    network.add_argument("--num-heads", type=int, default=4)
    network.add_argument(
        "--patch-size",
        type=int,
        default=7,
        help="side of a patch; must divide the side of an image (MNIST: 7; digits: 1, 2 or 4)",
    )
    network.add_argument("--mlp-ratio", type=float, default=4.0)
    network.add_argument("--mlp-time-embed", action="store_true")
    network.add_argument("--conv", action=argparse.BooleanOptionalAction, default=True)
    add_common_arguments(
        parser, size_flag="--img-size", channels_flag="--in-chans", defaults=DEFAULTS
    )
    parser.set_defaults(data="mnist")  # NOTE: the default patch size 7 does not divide 8
    return parser


def build_net(
    args: argparse.Namespace, shape: tuple[int, int, int], num_classes: int, null_class: bool
) -> UViT:
    """Build the network from parsed arguments.

    Args:
        args: Parsed arguments.
        shape: Shape (C, H, W) of an image.
        num_classes: Number of classes; 0 builds an unconditional network.
        null_class: Whether to add a label for "no class", as last row of the labels.
    """
    channels, side, _ = shape
    null_class = null_class and num_classes > 0
    return UViT(
        img_size=side,
        patch_size=args.patch_size,
        in_chans=channels,
        embed_dim=args.embed_dim,
        depth=args.depth,
        num_heads=args.num_heads,
        mlp_ratio=args.mlp_ratio,
        mlp_time_embed=args.mlp_time_embed,
        num_classes=num_classes + int(null_class) if num_classes else -1,
        null_class=null_class,
        conv=args.conv,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write the weights."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)

    def build(shape: tuple[int, int, int], num_classes: int, null_class: bool) -> UViT:
        return build_net(args, shape, num_classes, null_class)

    return run_command(args, arguments, "trainers.pretraining.uvit", build)


if __name__ == "__main__":
    raise SystemExit(main())
