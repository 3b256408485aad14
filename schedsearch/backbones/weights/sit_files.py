"""Weights of SiT: REPA's layout, and what tells them from a DiT's.

No torch here, so that ``check`` stays fast.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from schedsearch.exceptions import CheckpointError

if TYPE_CHECKING:
    from schedsearch.backbones.weights.weight_files import Weights

LAST_WEIGHT = "final_layer.linear.weight"
"""Weight of the last layer, (P * P * outputs, D)."""

PATCHES = "x_embedder.proj.weight"
"""Weight that embeds patches, (D, C, P, P)."""

HINT = (
    "looks like a SiT: the rows for variances are all zero, and SiT never trains them. If it is "
    "one, use family: sit or a name such as SiT-XL/2; a DiT would run it on the wrong process"
)

TIME = "diffusion.time"
"""Key of what a file says its network is fed; REPA's and the official SiT differ in it."""

_PROJECTORS = "projectors."
_DECODER = re.compile(r"decoder_blocks\.(\d+)\.")
_PATHS = ("linear",)
"""Paths from data to noise that can be run, as training scripts name them."""


def is_repa(state: Mapping[str, Any]) -> bool:
    """Whether weights have keys that only REPA's SiT has."""
    return PATCHES in state and any(
        name.startswith(_PROJECTORS) or _DECODER.match(name) for name in state
    )


def as_sit(weights: Weights) -> Weights:
    """Return weights of SiT in the official layout.

    REPA's projectors are dropped, since they serve training alone. Its older files call the
    blocks behind the aligned one ``decoder_blocks``; they get the official names.

    Args:
        weights: Weights of a file, of SiT or REPA.

    Raises:
        CheckpointError: If they belong to a network or a path that SiT does not have.
    """
    path = weights.path
    norms = [name for name in weights.state if ".attn.q_norm." in name]
    if norms:
        raise CheckpointError(
            f"The checkpoint {path} was trained with qk_norm ({norms[0]}), which the family sit "
            "does not have. Use weights without it, or a class of your own."
        )
    kind = str(weights.claims.get("path_type", "linear")).lower()
    if kind not in _PATHS:
        raise CheckpointError(
            f"The checkpoint {path} was trained on the path {kind!r} (path_type), but "
            "diffusion.process: flow is the linear path. Use weights of the linear path."
        )
    notes = list(weights.notes)
    state = {n: value for n, value in weights.state.items() if not n.startswith(_PROJECTORS)}
    if dropped := len(weights.state) - len(state):
        notes.append(f"{dropped} tensors of REPA's projectors were left out; sampling needs none")
    if any(map(_DECODER.match, state)):
        first = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        state = {_renumbered(name, first): value for name, value in state.items()}
        notes.append(f"REPA's decoder_blocks became blocks {first} and up")
    if TIME in weights.claims:
        notes.append(f"it is REPA's, not the official SiT; set {TIME} to {weights.claims[TIME]}")
    wanted = str(weights.claims.get("prediction", "velocity")).lower()
    if wanted not in ("velocity", "v"):
        notes.append(f"it was trained to predict the {wanted}; set diffusion.prediction to it")
    return dataclasses.replace(weights, state=state, notes=tuple(notes))


def _renumbered(name: str, first: int) -> str:
    found = _DECODER.match(name)
    return name if found is None else f"blocks.{int(found[1]) + first}.{name[found.end() :]}"


def has_variances(state: Mapping[str, Any]) -> bool | None:
    """Whether the last layer has rows for variances; None if the weights do not say."""
    last, patches = state.get(LAST_WEIGHT), state.get(PATCHES)
    if last is None or patches is None or (len(last.shape), len(patches.shape)) != (2, 4):
        return None
    _, channels, side, _ = patches.shape
    if not channels:
        return None
    return bool(last.shape[0] == 2 * side * side * channels)


def variances_are_zero(state: Mapping[str, Any]) -> bool:
    """Whether rows for variances exist and are zero, while other rows are not.

    Args:
        state: Torch tensors or NumPy arrays with the names of a DiT.
    """
    if not has_variances(state):
        return False
    _, channels, _, _ = state[PATCHES].shape
    # NOTE: The rows of a patch pixel are C values, then C variances (DiT's unpatchify).
    rows = state[LAST_WEIGHT].reshape(-1, 2 * channels, state[LAST_WEIGHT].shape[1])
    return not bool((rows[:, channels:] != 0).any()) and bool((rows[:, :channels] != 0).any())


def file_looks_like_sit(path: Path) -> bool:
    """The same for a file, without torch; False where only torch could read it."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="np") as file:
            names = set(file.keys())
            if not {LAST_WEIGHT, PATCHES} <= names:
                return False
            arrays = {name: np.asarray(file.get_tensor(name)) for name in (LAST_WEIGHT, PATCHES)}
    except (SafetensorError, OSError, TypeError, AttributeError):  # NOTE: bfloat16 needs torch
        return False
    return variances_are_zero(arrays)
