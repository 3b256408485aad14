"""Data of the pretraining commands: flags, rules between flags, and opening the source."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from schedsearch.config.data_rules import KNOWN_SHAPES
from schedsearch.data.loading import load_source
from schedsearch.data.sources import ImageSource
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

SOURCES = ("digits", "mnist", "cifar10", "image_folder", "npz", "latents")


def add_data_arguments(
    parser: argparse.ArgumentParser, *, size_flag: str, channels_flag: str
) -> None:
    """Add the group of data flags to a parser.

    Args:
        parser: The command's parser.
        size_flag: Official name of the side of an image, for example ``--img-size``.
        channels_flag: Official name of the number of channels.
    """
    data = parser.add_argument_group("data", "Messages call them data.path, data.vae and so on.")
    data.add_argument(
        "--data", choices=SOURCES, default="digits", help="image source (default: %(default)s)"
    )
    data.add_argument("--path", type=Path, help="file or folder of the source; none for digits")
    data.add_argument(
        "--vae", type=Path, help="folder of the diffusers AutoencoderKL that decodes latents"
    )
    data.add_argument(
        "--max-damaged",
        metavar="N",
        type=int,
        default=0,
        help="unreadable images of a folder to skip; one more is an error",
    )
    data.add_argument("--flip", action="store_true", help="flip images at random, left to right")
    data.add_argument(
        size_flag,
        dest="size",
        metavar="N",
        type=int,
        help="side of an image or latent; needed for image_folder, npz and latents",
    )
    data.add_argument(
        channels_flag, dest="channels", metavar="N", type=int, help="channels: 1, 3, latents 4"
    )
    parser.set_defaults(shape_flags=f"{size_flag} and {channels_flag}")
    data.add_argument("--unconditional", action="store_true", help="ignore the labels")


def open_source(
    args: argparse.Namespace, device: torch.device
) -> tuple[ImageSource, tuple[int, int, int]]:
    """Open the source of the parsed arguments, without verifying its images.

    Args:
        args: Parsed arguments.
        device: Device that decodes latents.

    Returns:
        The source, and the input shape (C, H, W) of the network.

    Raises:
        ConfigError: If the flags contradict each other, or the data is missing or damaged.
    """
    _check_flags(args)
    shape = _shape(args)
    settings = DataSettings(
        source=args.data,
        path=None if args.path is None else str(args.path),
        flip=args.flip,
        max_damaged=args.max_damaged,
        vae=None if args.vae is None else str(args.vae),
    )
    return load_source(settings, shape, device), shape


def _check_flags(args: argparse.Namespace) -> None:
    """Check that the flags fit the source."""
    if args.data == "digits" and args.path is not None:
        raise ConfigError(
            f"--data digits ships with scikit-learn and has no path, got --path {args.path}; "
            "leave --path out or name another --data."
        )
    if args.data != "digits" and args.path is None:
        raise ConfigError(
            f"--data {args.data} needs --path, its file or folder; nothing is downloaded."
        )
    if args.data == "latents" and args.vae is None:
        raise ConfigError(
            "--data latents needs --vae, the folder of the diffusers AutoencoderKL that made them."
        )
    if args.data != "latents" and args.vae is not None:
        raise ConfigError(
            f"Only latents are decoded, got --vae {args.vae} with --data {args.data}; "
            "leave --vae out."
        )
    if args.max_damaged < 0:
        raise ConfigError(f"--max-damaged must be at least 0, got {args.max_damaged}.")
    if args.max_damaged and args.data != "image_folder":
        raise ConfigError(
            f"Only image_folder skips images, got --max-damaged {args.max_damaged} with "
            f"--data {args.data}; leave it out."
        )


def _shape(args: argparse.Namespace) -> tuple[int, int, int]:
    channels, side, _ = KNOWN_SHAPES.get(args.data, (None, None, None))
    channels = channels if args.channels is None else args.channels
    side = side if args.size is None else args.size
    if channels is None or side is None:
        raise ConfigError(f"--data {args.data} has no fixed shape; give {args.shape_flags}.")
    if channels < 1 or side < 1:
        raise ConfigError(
            f"{args.shape_flags} must be at least 1, got side {side} and {channels} channels."
        )
    return channels, side, side
