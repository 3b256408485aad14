"""Trains a SiT from scratch by flow matching and writes its EMA weights.

The default network is for 32 x 32 colour tiles; FILE is the ``train.npz`` of
``python -m trainers.pretraining.tiles``::

    python -m trainers.pretraining.sit --path FILE --output OUT.safetensors --half

To resume an interrupted training, run the same command again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from schedsearch.backbones.sit import SiT
from trainers.pretraining.command import run_command
from trainers.pretraining.dit import add_network_arguments, build_net
from trainers.pretraining.loop import Plan

DEFAULTS = Plan(steps=9_000, batch_size=32, lr=1e-3, ema_decay=0.9995)
"""Our settings for small networks; the SiT paper uses 7M steps at 1e-4."""

SIDE, CHANNELS = 32, 3
"""Shape of the tiles, for ``--data npz`` without other flags."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; flags of the network have the official names."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.sit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network_arguments(parser, hidden_size=96, depth=12, patch_size=4, defaults=DEFAULTS)
    parser.set_defaults(data="npz", process="flow", time="sit")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write the weights."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    if args.data == "npz":
        args.size = SIDE if args.size is None else args.size
        args.channels = CHANNELS if args.channels is None else args.channels

    def build(shape: tuple[int, int, int], num_classes: int, null_class: bool) -> SiT:
        return build_net(SiT, args, shape, num_classes, null_class)

    return run_command(args, arguments, "trainers.pretraining.sit", build)


if __name__ == "__main__":
    raise SystemExit(main())
