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
from pickletools import genops
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from schedsearch.backbones.weights.claim_sources import (
    claims_beside,
    claims_in,
    claims_of_metadata,
)
from schedsearch.backbones.weights.diffusers_dit import (
    SHIFT_KEY,
    is_diffusers_state,
    official_state,
    stated_arguments,
)
from schedsearch.backbones.weights.file_kinds import layout_of_file
from schedsearch.backbones.weights.shards import read_shards, shards_in_index, shards_of
from schedsearch.backbones.weights.sit_files import TIME, is_repa
from schedsearch.backbones.weights.weight_names import name_some
from schedsearch.backbones.weights.weight_sets import choose_set
from schedsearch.config.checkpoint_paths import WeightsLocation
from schedsearch.exceptions import CheckpointError

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
    others: tuple[str, ...] = ()
    """Names of the file's other sets of weights."""
    passed_over: bool = False
    """Whether a set that comes first elsewhere, such as an EMA, is empty here."""
    prefix: str = ""
    """What was removed before the names of all tensors."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of its own training; see :mod:`.claims`."""


def read_weights(location: WeightsLocation) -> Weights:
    """Read a weights file.

    Args:
        location: The file, and which of several sets of weights to take from it.

    Raises:
        CheckpointError: If the file is damaged, holds more than tensors and plain data, or
            lacks the chosen set.
    """
    path = location.path
    content, metadata, note = _read(path)
    chosen, others, chosen_notes, passed_over = choose_set(content, path, location.choice)
    notes = [location.note, note, *chosen_notes, *passed_over]
    state = chosen.state
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
        others=others,
        passed_over=bool(passed_over),
        prefix=chosen.prefix,
        claims={
            **claims_beside(path),
            **claims_of_metadata(metadata),
            **claims_in(content),
            **({TIME: "sigma"} if is_repa(state) else {}),
        },
    )


def _read(path: Path) -> tuple[Mapping[str, object], Mapping[str, str], str | None]:
    """Return content, metadata and a note of a file, or of all shards that it belongs to."""
    try:
        layout = layout_of_file(path)
    except OSError as error:
        raise CheckpointError(f"Cannot read the checkpoint {path}: {error.strerror}.") from error
    shards = shards_in_index(path) if layout == "index" else shards_of(path)
    if len(shards) < 2:
        return *_read_file(shards[0] if shards else path), None
    metadata: dict[str, str] = {}

    def read(shard: Path) -> object:
        content, more = _read_file(shard)
        metadata.update(more)
        return content

    whole = read_shards(shards, read)
    return whole, metadata, f"{path.name} belongs to {len(shards)} shards; all were read"


def _read_file(path: Path) -> tuple[Mapping[str, object], Mapping[str, str]]:
    try:
        if layout_of_file(path) == "safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        # NOTE: With mmap, optimizer state beside the weights is never read from disk. torch reads
        # a path by its ending, so an open file is given where the ending is wrong.
        misnamed = path.suffix.lower() == ".safetensors"
        mmap = zipfile.is_zipfile(path) and not misnamed
        with torch.serialization.safe_globals([*ALLOWED_CLASSES]), path.open("rb") as file:
            source: Any = file if misnamed else path
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_refused(path, error)) from error
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise CheckpointError(_why_unreadable(path, error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"The checkpoint {path} holds a {type(content).__name__}, not a state dict."
        )
    return content, {}


def _why_refused(path: Path, error: pickle.UnpicklingError) -> str:
    """Say whether a pickle holds classes, or is damaged."""
    classes = _named_classes(path)
    if not classes and "global" not in str(error).lower() and not _calls_something(path):
        return _cut_off(path, "its pickle is damaged")
    return (
        f"The checkpoint {path} is damaged or holds more than tensors{classes}, "
        "which is refused because it could run code. Save its state dict alone, best as "
        "safetensors."
    )


def _named_classes(path: Path) -> str:
    """Name the classes and functions that a pickle needs, without running it."""
    if not zipfile.is_zipfile(path):
        return ""
    allowed = {f"{kind.__module__}.{kind.__qualname__}" for kind in ALLOWED_CLASSES}
    try:
        asked = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - allowed
    except Exception:  # noqa: BLE001 - a damaged pickle raises anything
        return ""
    return f" ({name_some(sorted(asked))})" if asked else ""


def _why_unreadable(path: Path, error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "weights_only" in reason:  # NOTE: TorchScript and tar archives always run code
        return (
            f"The checkpoint {path} is a TorchScript or tar archive, which cannot be read without "
            "running code from it. Save its state dict as safetensors."
        )
    return _cut_off(path, reason)


def _calls_something(path: Path) -> bool:
    """Whether a bare pickle names a class or function; nothing of it runs."""
    try:
        with path.open("rb") as file:
            return any(op.name in ("GLOBAL", "STACK_GLOBAL") for op, _, _ in genops(file))
    except (OSError, ValueError):  # cut off before one was named
        return False


def _cut_off(path: Path, reason: str) -> str:
    return (
        f"The checkpoint {path} cannot be read ({reason[:120]}). It may be cut off: compare its "
        "size with the source and copy it again."
    )
