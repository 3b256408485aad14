"""Reads latents from one npz or safetensors file, or a folder of shards."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from schedsearch.data.npz import checked_labels, read_arrays
from schedsearch.exceptions import ConfigError
from schedsearch.files.content import why_not_a_file
from schedsearch.files.pictures import kind_left_out

LATENTS, MOMENTS, LABELS = "latents", "moments", "labels"
SUFFIXES = (".safetensors", ".npz")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentShard:
    """One file of latents; rows of a safetensors file are read on demand."""

    path: Path
    values: Tensor
    """Scaled latents (n, C, h, w), or unscaled moments (n, 2C, h, w)."""
    labels: Tensor | None
    """Classes, (n,) int64, or None."""
    moments: bool
    """Whether ``values`` holds mean and log variance."""

    @property
    def channels(self) -> int:
        """Channels C of the latents."""
        return self.values.shape[1] // (2 if self.moments else 1)


def load_shards(path: Path, in_shape: tuple[int, int, int]) -> list[LatentShard]:
    """Open all shards, sorted by name.

    A shard holds ``latents``, (n, C, h, w), already times the autoencoder's scaling factor; or
    ``moments``, (n, 2C, h, w), the unscaled mean and log variance of the posterior. Both may be
    float16, bfloat16 or float32. ``labels``, (n,) integers, are optional.

    Args:
        path: A file, or a folder of shards.
        in_shape: Input shape (C, h, w) of the model.

    Raises:
        ConfigError: If there is no shard, or one is damaged or does not fit the model or the
            other shards.
    """
    shards = [_load_shard(file, in_shape) for file in _shard_files(path)]
    first = shards[0]
    for shard in shards[1:]:
        if shard.moments != first.moments or (shard.labels is None) != (first.labels is None):
            raise ConfigError(
                f"The shards {first.path} and {shard.path} hold different keys; all shards must "
                f"have {LATENTS} or all {MOMENTS}, and all {LABELS} or none."
            )
    return shards


def _shard_files(path: Path) -> list[Path]:
    if path.suffix.lower() == ".npy" or (path.is_dir() and any(path.glob("*.npy"))):
        raise ConfigError(
            f"data.path {path}: .npy features, as U-ViT's extract_imagenet_feature.py writes "
            "them, are pickles and are refused, because they could run code. Where you trust "
            f"them, stack them once and save {MOMENTS} and {LABELS} with np.savez or "
            "safetensors."
        )
    reason = why_not_a_file(path)
    if reason is None and _is_shard(path):
        return [path]
    entries = sorted(entry for entry in path.glob("*") if not entry.name.startswith("."))
    folders = [entry.name for entry in entries if any(map(_is_shard, entry.glob("**/*")))]
    if folders:
        raise ConfigError(
            f"data.path {path} holds shards in folders ({', '.join(folders[:3])}). Name one of "
            "them, or move all shards into one folder."
        )
    files = [entry for entry in entries if _is_shard(entry)]
    others = Counter(filter(None, map(kind_left_out, (e for e in entries if e not in files))))
    left_out = ", ".join(f"{n} {kind}" for kind, n in sorted(others.items()))
    if not files:
        why = reason if reason and not path.is_dir() else f"{path} holds none of them"
        raise ConfigError(
            f"data.path must be a file ({' or '.join(SUFFIXES)}) or a folder of them, but "
            f"{why}{left_out and f', but {left_out}'}."
        )
    if left_out:
        _log.warning("The latents leave out entries of %s: %s.", path, left_out)
    return files


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _load_shard(file: Path, in_shape: tuple[int, int, int]) -> LatentShard:
    tensors = _read_safetensors(file) if file.suffix.lower() == ".safetensors" else _read_npz(file)
    if (LATENTS in tensors) == (MOMENTS in tensors):
        raise ConfigError(
            f"{file} must hold either {LATENTS} or {MOMENTS}, but has "
            f"{', '.join(sorted(tensors)) or 'neither'}."
        )
    moments = MOMENTS in tensors
    values = tensors[MOMENTS if moments else LATENTS]
    _check_values(values, moments, in_shape, file)
    labels = tensors.get(LABELS)
    if labels is not None:
        # NOTE: NumPy has no bfloat16.
        plain = labels.float() if labels.is_floating_point() else labels
        labels = torch.from_numpy(checked_labels(plain.numpy(), len(values), file))
    return LatentShard(file, values, labels, moments)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as archive:  # NOTE: tensors are memory-mapped
            names = set(archive.keys()) & {LATENTS, MOMENTS, LABELS}
            return {name: archive.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{file} cannot be read as safetensors ({error}). It may be cut off; encode it again."
        ) from error


def _read_npz(file: Path) -> dict[str, Tensor]:
    arrays = read_arrays(file, (LATENTS, MOMENTS), (LABELS,))
    try:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file} has an array that is not plain numbers: {error}") from error


def _check_values(
    values: Tensor, moments: bool, in_shape: tuple[int, int, int], file: Path
) -> None:
    channels, *size = in_shape
    wanted = (channels * (2 if moments else 1), *size)
    name, other = (MOMENTS, LATENTS) if moments else (LATENTS, MOMENTS)
    if not values.is_floating_point():
        raise ConfigError(f"{file}: {name} must be float16 or float32, but are {values.dtype}.")
    if values.ndim == 4 and len(values) and tuple(values.shape[1:]) == wanted:
        return
    hint = ""
    if values.ndim == 4 and tuple(values.shape[1:]) == (channels * (1 if moments else 2), *size):
        hint = f"; with {values.shape[1]} channels they are {other}, so name the key so"
    raise ConfigError(
        f"{file}: the backbone wants {name} of shape (N, {', '.join(map(str, wanted))}), but the "
        f"file has {tuple(values.shape)}{hint}."
    )
