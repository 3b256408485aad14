"""DiT in diffusers' layout: keys, config, and the different time embedding.

``DiTTransformer2DModel`` repeats the embedders in every block, splits query, key and value, and
omits the fixed position embedding. Its time embedding has other frequencies
(``downscale_freq_shift`` 1; official: 0): see :func:`patch_time_embedding`. Its second norm takes
``norm_eps`` from the config (default 1e-5; official: 1e-6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schedsearch.backbones.dit import NORM_EPS, DiT
from schedsearch.backbones.layers import sincos_position_embedding
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.files.strict_json import load_json

CLASS_NAMES = ("DiTTransformer2DModel", "Transformer2DModel")
"""Class names in ``config.json``; older folders (facebook/DiT-XL-2-256) have the second."""

SHIFT_KEY = "schedsearch.downscale_freq_shift"
"""Metadata key of exported weights: the shift they need."""

MLP_RATIO = 4
"""Hidden width of the MLP over the token width; fixed in diffusers."""

POSITION_TOLERANCE = 5e-3
"""Largest error of a position embedding in [-1, 1] after rounding to bfloat16."""

_ENDS = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
_EMBEDDERS = {
    "t_embedder.mlp.0.weight": "timestep_embedder.linear_1.weight",
    "t_embedder.mlp.0.bias": "timestep_embedder.linear_1.bias",
    "t_embedder.mlp.2.weight": "timestep_embedder.linear_2.weight",
    "t_embedder.mlp.2.bias": "timestep_embedder.linear_2.bias",
    "y_embedder.embedding_table.weight": "class_embedder.embedding_table.weight",
}
_POSITIONS = "pos_embed.pos_embed"
_KINDS = ("weight", "bias")


def is_diffusers_state(names: Iterable[str]) -> bool:
    """Whether these are the keys of a ``DiTTransformer2DModel``."""
    return any(name.startswith("transformer_blocks.0.norm1.emb.") for name in names)


def official_state(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Convert weights from diffusers' layout to the official one, bit for bit.

    The result has no position embedding if the file has none. Keys that fit no DiT keep their
    names, so that a strict check counts them.

    Args:
        state: State dict of a ``DiTTransformer2DModel``.
        path: The file, for error messages.

    Raises:
        CheckpointError: If the copies of an embedder differ between blocks.
    """
    depth = _depth(state, "transformer_blocks.")
    rest = dict(state)
    official = {"pos_embed": rest.pop(_POSITIONS)} if _POSITIONS in rest else {}
    for ours, theirs in _same_shape(depth).items():
        if theirs in rest:
            official[ours] = rest.pop(theirs)
    for ours, parts in _query_key_value(depth).items():
        kinds = {(rest[part].shape, rest[part].dtype) for part in parts if part in rest}
        # NOTE: Parts that cannot be joined stay, and the strict check names them.
        if all(part in rest for part in parts) and len(kinds) == 1 and rest[parts[0]].ndim:
            official[ours] = torch.cat([rest.pop(part) for part in parts])
    for ours, copies in _copies(depth).items():
        if not all(copy in rest for copy in copies):
            continue
        first, *others = [rest.pop(copy) for copy in copies]
        differing = [
            f"block {index}"
            for index, other in enumerate(others, start=1)
            if not torch.equal(first, other)
        ]
        if differing:
            raise CheckpointError(
                f"The official layout has one {ours}, but the copies in {path} differ between "
                f"block 0 and {differing[0]}, as after a fine-tune in diffusers. Fine-tune in the "
                "official layout, and convert to diffusers afterwards."
            )
        official[ours] = first
    return {**official, **rest}


def diffusers_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of a DiT to diffusers' layout; inverse of :func:`official_state`."""
    depth = _depth(state, "blocks.")
    result = {theirs: state[ours] for ours, theirs in _same_shape(depth).items()}
    for ours, parts in _query_key_value(depth).items():
        result.update(zip(parts, state[ours].chunk(len(parts)), strict=True))
    for ours, copies in _copies(depth).items():
        result.update(dict.fromkeys(copies, state[ours]))
    return result


def stated_arguments(config_file: Path) -> dict[str, int]:
    """Read the DiT arguments that weights do not show from diffusers' ``config.json``.

    Raises:
        CheckpointError: If the config is damaged or describes another model.
    """
    try:
        config = load_json(config_file.read_text(encoding="utf-8"))
        name = config["_class_name"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{config_file} is not a config of a diffusers model "
            f"({type(error).__name__}: {error}). Copy the folder again."
        ) from error
    needed = {"norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate"}
    wrong = {key: config[key] for key, value in needed.items() if config.get(key, value) != value}
    if name not in CLASS_NAMES or wrong:
        found = ", ".join([str(name), *(f"{key} {value}" for key, value in wrong.items())])
        raise CheckpointError(
            f"{config_file} describes {found}; of diffusers' models only DiT "
            "(DiTTransformer2DModel) can be read."
        )
    known = {"num_attention_heads": "num_heads", "sample_size": "input_size"}
    return {ours: config[key] for key, ours in known.items() if isinstance(config.get(key), int)}


def transformer_config(net: DiT) -> dict[str, Any]:
    """Return the arguments of the ``DiTTransformer2DModel`` equivalent to ``net``.

    Raises:
        ConfigError: If diffusers has no such model.
    """
    block: Any = net.blocks[0]
    width = block.attn.proj.in_features
    if block.mlp.fc1.out_features != MLP_RATIO * width:
        raise ConfigError(
            f"diffusers' DiT has mlp_ratio {MLP_RATIO}, but this one has "
            f"{block.mlp.fc1.out_features / width:g}. Convert it to safetensors instead."
        )
    channels, size, _ = net.in_shape
    return {
        "num_attention_heads": block.attn.num_heads,
        "attention_head_dim": width // block.attn.num_heads,
        "in_channels": channels,
        "out_channels": net.out_channels,
        "num_layers": net.num_exit_blocks,
        "sample_size": size,
        "patch_size": net.patch_size,
        # NOTE: diffusers always adds a "no class" row. A DiT without one gives its last class.
        "num_embeds_ada_norm": net.y_embedder.embedding_table.num_embeddings - 1,
        "norm_eps": NORM_EPS,
    }


def check_positions(net: DiT) -> None:
    """Check that a network has the fixed position embedding that diffusers computes.

    Raises:
        ConfigError: If it differs, because an export would lose it.
    """
    _, size, _ = net.in_shape
    fixed = sincos_position_embedding(net.pos_embed.shape[-1], size // net.patch_size)
    error = (net.pos_embed.detach().float().cpu()[0] - fixed).abs().max().item()
    if not error <= POSITION_TOLERANCE:
        raise ConfigError(
            f"diffusers' DiT has a fixed position embedding, and that of these weights differs "
            f"from it by up to {error:.2g}. Convert them to safetensors instead."
        )


def patch_time_embedding(transformer: Any) -> None:
    """Make a diffusers DiT compute the official time embedding.

    diffusers does not store this setting: patch the model after every ``from_pretrained``.

    Args:
        transformer: A ``DiTTransformer2DModel``, changed in place.

    Raises:
        ValueError: If it is a different model.
    """
    embeddings: list[Any] = [
        getattr(getattr(getattr(block, "norm1", None), "emb", None), "time_proj", None)
        for block in getattr(transformer, "transformer_blocks", ())
    ]
    if not embeddings or not all(hasattr(e, "downscale_freq_shift") for e in embeddings):
        raise ValueError(
            f"A {type(transformer).__name__} has no time embedding of a DiT in its blocks. "
            "Give a diffusers DiTTransformer2DModel, for example pipe.transformer."
        )
    for embedding in embeddings:
        embedding.downscale_freq_shift = 0


def _depth(names: Iterable[str], prefix: str) -> int:
    return len({name.split(".")[1] for name in names if name.startswith(prefix)})


def _same_shape(depth: int) -> dict[str, str]:
    modules = dict(_ENDS)
    for index in range(depth):
        for ours, theirs in _BLOCK.items():
            modules[f"blocks.{index}.{ours}"] = f"transformer_blocks.{index}.{theirs}"
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in modules.items() for kind in _KINDS
    }


def _query_key_value(depth: int) -> dict[str, list[str]]:
    return {
        f"blocks.{index}.attn.qkv.{kind}": [
            f"transformer_blocks.{index}.attn1.to_{part}.{kind}" for part in "qkv"
        ]
        for index in range(depth)
        for kind in _KINDS
    }


def _copies(depth: int) -> dict[str, list[str]]:
    return {
        ours: [f"transformer_blocks.{index}.norm1.emb.{theirs}" for index in range(depth)]
        for ours, theirs in _EMBEDDERS.items()
    }
