"""``schedsearch convert``: weights from one layout into another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.exceptions import ExitCode

if TYPE_CHECKING:
    from schedsearch.settings import BackboneSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convert``."""
    parser.add_argument(
        "source",
        metavar="IN",
        help="weights: .safetensors, .pt or .pth (release or training file of DiT, SiT, REPA, ASE "
        "or U-ViT), a training folder of U-ViT (N.ckpt), a folder of a diffusers DiT model or "
        "pipeline, or package:NAME",
    )
    parser.add_argument("target", metavar="OUT", help="file to write; for diffusers a folder")
    parser.add_argument(
        "--to",
        choices=("safetensors", "diffusers", "official"),
        help="layout of OUT (default: by its name: .safetensors, .pt and .pth are official, no "
        "suffix is diffusers)",
    )
    parser.add_argument(
        "--which",
        choices=("ema", "model", "state_dict"),
        help="weights to take where IN holds several (default: the first there is)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    model = parser.add_argument_group("the backbone (default: recognised by the shapes)")
    group = model.add_mutually_exclusive_group()
    group.add_argument(
        "--backbone", metavar="NAME", help="check against this backbone, for example DiT-XL/2"
    )
    group.add_argument(
        "--space", metavar="SPACE", help="check against the backbone of this search space"
    )


def take_action(args: argparse.Namespace) -> int:
    """Convert weights and say what was written."""
    from schedsearch.backbones.weights.conversion import convert, layout_of
    from schedsearch.config import read_model_settings

    target = Path(args.target)
    layout = args.to or layout_of(target)
    backbone: BackboneSettings | str | None = args.backbone
    if args.space is not None:
        # The weights that it names may be those that are to be written.
        backbone = read_model_settings(args.space, ["backbone.checkpoint=null"]).backbone
    checkpoint = args.source if args.which is None else f"{args.source}#{args.which}"
    done = convert(checkpoint, target, layout, backbone=backbone, force=args.force)
    if done.note is not None and not args.quiet:
        print(f"weights: {done.note}", file=sys.stderr)
    name = done.backbone.name or done.backbone.family
    config = ", ".join(f"{key} {_text(value)}" for key, value in done.backbone.config.items())
    print(f"{target}: {layout} layout")
    print(f"  backbone     {name}{' with ' if config else ''}{config}")
    print(f"  tensors      {done.num_tensors}, {done.num_values:,} values, {done.dtype}")
    print(f"  fingerprint  {done.fingerprint}")
    if layout == "diffusers":
        print(f"  in diffusers patch the time embedding after loading: see {target / 'README.md'}")
    return ExitCode.DONE


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
