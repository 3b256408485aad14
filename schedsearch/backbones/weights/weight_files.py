"""Reads weights files: nested, wrapped, pickled, or in diffusers' layout.

Reading runs no code from a file: pickles are read with ``weights_only``. The only class allowed
beside tensors is ``argparse.Namespace``, where DiT's training script stores its arguments. It
holds plain data only.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from schedsearch.backbones.weights.diffusers_dit import (
    SHIFT_KEY,
    is_diffusers_state,
    official_state,
    stated_arguments,
)
from schedsearch.config.checkpoint_paths import CHOICES, WeightsLocation
from schedsearch.exceptions import CheckpointError

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""Key prefixes added by DistributedDataParallel and torch.compile."""

MAX_NAMED = 5
"""Largest number of keys that an error names."""

ALLOWED_CLASSES = (argparse.Namespace,)
"""Classes that a pickled file may hold beside tensors and plain data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of weights in the layout of the official code."""

    path: Path
    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    """What was chosen or changed while reading, as text for people."""
    is_diffusers: bool = False
    """Whether the file came from diffusers, which omits the fixed position embedding."""
    stated: Mapping[str, Any] = field(default_factory=dict)
    """Network arguments from a config beside the file."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the training script, where it stored them."""


def read_weights(location: WeightsLocation) -> Weights:
    """Read a weights file.

    Args:
        location: The file, and which of several sets of weights to take from it.

    Raises:
        CheckpointError: If the file is damaged, holds more than tensors and plain data, or
            lacks the chosen set.
    """
    path = location.path
    content, metadata = _read(path)
    state, note = _choose(content, path, location.choice)
    notes = [location.note, note]
    state, prefix = _strip_wrappers(state)
    if prefix:
        notes.append(f"the prefix {prefix!r} of its keys was removed")
    stated: Mapping[str, Any] = {}
    from_diffusers = is_diffusers_state(state)
    if location.diffusers_config is not None:
        stated = stated_arguments(location.diffusers_config)
    if from_diffusers:
        state = official_state(state, path)
        notes.append(f"{path.name} has diffusers' layout; it was converted to the official one")
        if SHIFT_KEY not in metadata:
            notes.append(
                "the time embedding is the official one (downscale_freq_shift 0), as weights "
                "converted from the official release need; diffusers itself computes 1, so "
                "weights trained with diffusers give other outputs here"
            )
    return Weights(
        path=path,
        state=state,
        notes=tuple(text for text in notes if text),
        is_diffusers=from_diffusers,
        stated=stated,
        training=_arguments(content),
    )


def name_some(names: list[str]) -> str:
    """List the first names and the number of the rest."""
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _read(path: Path) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """Return content and metadata of a file."""
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(
                f"The checkpoint {path} is empty, as after a crash while saving; copy or "
                "download it again."
            )
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        # NOTE: With mmap, optimizer state beside the weights is never read from disk.
        is_zip = zipfile.is_zipfile(path)
        with torch.serialization.safe_globals([*ALLOWED_CLASSES]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged or holds more than tensors{_named_classes(path)}, "
            "which is refused because it could run code. Save its state dict alone, best as "
            "safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(_why_unreadable(path, error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} holds a {type(content).__name__}, not a state dict."
        )
    return content, {}


def _named_classes(path: Path) -> str:
    """Name the classes and functions that a pickle needs, without running it."""
    if not zipfile.is_zipfile(path):
        return ""
    allowed = {f"{kind.__module__}.{kind.__qualname__}" for kind in ALLOWED_CLASSES}
    try:
        asked = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - allowed
    except (pickle.UnpicklingError, RuntimeError, ValueError):
        return ""
    return f" ({name_some(sorted(asked))})" if asked else ""


def _why_unreadable(path: Path, error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "weights_only" in reason:  # NOTE: TorchScript and tar archives always run code
        return (
            f"The checkpoint {path} is a TorchScript or tar archive, which cannot be read without "
            "running code from it. Save its state dict as safetensors."
        )
    return (
        f"The checkpoint {path} cannot be read ({reason[:120]}). It may be cut off: compare its "
        "size with the source and copy it again."
    )


def _choose(
    content: Mapping[str, object], path: Path, choice: str | None
) -> tuple[dict[str, Tensor], str | None]:
    nested = [key for key in CHOICES if isinstance(content.get(key), Mapping)]
    note = None
    if choice is not None and choice not in nested:
        holds = f"holds {', '.join(nested)}" if nested else "holds one set of weights only"
        raise CheckpointError(
            f"The checkpoint {path} has no {choice!r}: it {holds}. Change or drop the suffix "
            f"#{choice}."
        )
    if nested:
        chosen = choice or nested[0]
        inner = content[chosen]
        assert isinstance(inner, Mapping)
        if choice is None and len(nested) > 1:
            note = f"{path.name} holds {', '.join(nested)}; {chosen!r} was loaded" + (
                f" (#{nested[1]} takes the other)"
            )
        else:
            note = f"{path.name}: {chosen!r} was loaded"
        content = inner
    weights = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not weights:
        raise CheckpointError(
            f"The checkpoint {path} holds no tensors where its weights should be; the keys there "
            f"are {name_some([str(key) for key in content])}."
        )
    return weights, note


def _arguments(content: Mapping[str, object]) -> Mapping[str, Any]:
    """Return the arguments that training scripts of DiT, SiT and REPA store as ``args``."""
    stored = content.get("args")
    if isinstance(stored, argparse.Namespace):
        return vars(stored)
    return stored if isinstance(stored, Mapping) else {}


def _strip_wrappers(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    removed, stripped = "", True
    while stripped:  # NOTE: both wrappers may be nested, in either order
        stripped = False
        for prefix in WRAPPER_PREFIXES:
            if all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                removed, stripped = removed + prefix, True
    return weights, removed
