"""Reads constructor arguments of a network from the shapes of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

LABEL_ROWS = "rows of the label table"
"""Key for the number of rows, which may include one for "no class"."""


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of the DiT or U-ViT that these weights belong to.

    The number of heads is never included, because shapes do not show it. Arguments that a
    damaged state does not determine are missing too.

    Args:
        state: Weights with official names.

    Returns:
        ``family`` and arguments by their official names; empty for any other network.
    """
    if (proj := _patches(state, "x_embedder.proj.weight")) is not None:
        return _dit(state, proj)
    if (proj := _patches(state, "patch_embed.proj.weight")) is not None:
        return _uvit(state, proj)
    return {}


def differences(file: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> str:
    """Say which arguments of the model differ from those of the file.

    Args:
        file: Weights of the file, with official names.
        model: State of the model.

    Returns:
        A sentence for an error message; empty if the shapes show no difference.
    """
    theirs, ours = arguments_of(file), arguments_of(model)
    if not theirs or not ours:
        return ""
    if theirs["family"] != ours["family"]:
        return f"The file holds a {_FAMILIES[theirs['family']]}, the model is a " + (
            f"{_FAMILIES[ours['family']]}."
        )
    differing = [
        f"{key}: {_text(theirs[key])} (model: {_text(ours[key])})"
        for key in theirs
        if key in ours and theirs[key] != ours[key]
    ]
    if not differing:
        return ""
    text = f"By its shapes the file has {', '.join(differing)}."
    if LABEL_ROWS in theirs and theirs[LABEL_ROWS] != ours.get(LABEL_ROWS):
        text += (
            " The label table has num_classes rows, and one more for 'no class' where "
            "class_dropout_prob is above 0."
        )
    return text


_FAMILIES = {"dit": "DiT", "uvit": "U-ViT"}


def _dit(state: Mapping[str, Tensor], proj: Tensor) -> dict[str, Any]:
    width, channels, patch_size, _ = proj.shape
    found: dict[str, Any] = {
        "family": "dit",
        "hidden_size": width,
        "depth": _count(state, "blocks."),
        "patch_size": patch_size,
        "in_channels": channels,
    }
    if (positions := state.get("pos_embed")) is not None and positions.ndim == 3:
        found["input_size"] = math.isqrt(positions.shape[1]) * patch_size
    if (hidden := _rows(state, "blocks.0.mlp.fc1.weight")) is not None:
        found["mlp_ratio"] = hidden / width
    if (table := _rows(state, "y_embedder.embedding_table.weight")) is not None:
        found[LABEL_ROWS] = table
    if (last := _rows(state, "final_layer.linear.weight")) is not None:
        found["learn_sigma"] = last == 2 * patch_size**2 * channels
    return found


def _uvit(state: Mapping[str, Tensor], proj: Tensor) -> dict[str, Any]:
    width, channels, patch_size, _ = proj.shape
    labels = _rows(state, "label_emb.weight")
    found: dict[str, Any] = {
        "family": "uvit",
        "embed_dim": width,
        "depth": 2 * _count(state, "in_blocks."),
        "patch_size": patch_size,
        "in_chans": channels,
        "num_classes": -1 if labels is None else labels,
        "mlp_time_embed": "time_embed.0.weight" in state,
        "qkv_bias": "in_blocks.0.attn.qkv.bias" in state,
        "conv": "final_layer.weight" in state,
        "skip": "out_blocks.0.skip_linear.weight" in state,
    }
    if (positions := state.get("pos_embed")) is not None and positions.ndim == 3:
        extras = 1 if labels is None else 2  # tokens of the time and of the label
        found["img_size"] = math.isqrt(max(0, positions.shape[1] - extras)) * patch_size
    if (hidden := _rows(state, "in_blocks.0.mlp.fc1.weight")) is not None:
        found["mlp_ratio"] = hidden / width
    return found


def _patches(state: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Return the convolution that embeds patches, (D, C, P, P)."""
    weight = state.get(name)
    return weight if weight is not None and weight.ndim == 4 and weight.numel() else None


def _rows(state: Mapping[str, Tensor], name: str) -> int | None:
    """Size of the first axis; None without such a tensor, or where it is a single number."""
    weight = state.get(name)
    return weight.shape[0] if weight is not None and weight.ndim else None


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(prefix)})


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
