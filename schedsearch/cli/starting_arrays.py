"""The start of ``schedsearch sample``: noise and labels, from files or from a seed."""

from __future__ import annotations

import argparse
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schedsearch.data.npz import is_single_array
from schedsearch.evaluation.sampling import balanced_labels, require_finite, starting_noise
from schedsearch.exceptions import ConfigError
from schedsearch.files.content import why_not_a_file
from schedsearch.memory import require_memory

DEFAULT_NUM = 16
"""Images that are sampled if neither ``--num`` nor ``--noise`` says how many."""


def starting_arrays(args: argparse.Namespace, net: Any) -> tuple[Tensor, Tensor | None]:
    """Read starting noise and labels from files, or draw them from the seed.

    Args:
        args: With ``noise``, ``labels``, ``num`` and ``seed``.
        net: The network that samples.

    Returns:
        Noise, (N, C, H, W) float32, and labels, (N,) int64 or None.

    Raises:
        ConfigError: If a file does not fit the network.
    """
    if args.noise is None:
        num = args.num or DEFAULT_NUM
        require_memory(4 * num * math.prod(net.in_shape), f"--num {num}")
        noise = starting_noise(args.seed, num, net.in_shape)
    else:
        noise = _load_array(args.noise, "--noise")
        if tuple(noise.shape[1:]) != tuple(net.in_shape) or not len(noise):
            raise ConfigError(
                f"--noise must have the shape (N, {', '.join(map(str, net.in_shape))}), but "
                f"{args.noise} has {tuple(noise.shape)}."
            )
        if not noise.is_floating_point():
            raise ConfigError(
                f"--noise must hold real numbers (float32), but {args.noise} has {noise.dtype}."
            )
        if args.num is not None and args.num > len(noise):
            raise ConfigError(
                f"--num asks for {args.num} images, but {args.noise} has noise for {len(noise)}."
            )
        noise = noise[: args.num].float()
        require_finite(noise, f"images of noise in {args.noise}")
    if args.labels is None:
        return noise, balanced_labels(len(noise), net.num_classes)
    if net.num_classes is None:
        raise ConfigError("--labels was given, but the network is unconditional. Leave it out.")
    labels = _load_array(args.labels, "--labels")
    if labels.ndim != 1 or len(labels) < len(noise):
        raise ConfigError(
            f"--labels must hold {len(noise)} integers, but {args.labels} has the shape "
            f"{tuple(labels.shape)}."
        )
    labels = labels[: len(noise)]
    odd = labels.dtype == torch.bool or labels.is_complex()
    whole = labels if odd else labels.double() if labels.is_floating_point() else labels.long()
    if odd or bool((whole != whole.floor()).any()):
        raise ConfigError(
            f"--labels must be whole numbers, but {args.labels} holds others ({labels.dtype})."
        )
    if not bool(((whole >= 0) & (whole < net.num_classes)).all()):
        raise ConfigError(f"--labels must lie in [0, {net.num_classes - 1}].")
    return noise, whole.long()


def _load_array(path: str, option: str) -> Tensor:
    if (reason := why_not_a_file(Path(path))) is not None:
        raise ConfigError(f"{option}: {reason}.")
    try:
        if not zipfile.is_zipfile(path) and not is_single_array(Path(path)):
            raise ConfigError(f"{option} {path} is no NumPy array (.npy), or is empty.")
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ConfigError(
                f"{option} {path} is an archive, not one array. Save it with np.save."
            )
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except MemoryError as error:
        raise ConfigError(f"{option} {path} does not fit into memory: {error}") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"Cannot read {path} as a NumPy array (.npy): {error}") from error
