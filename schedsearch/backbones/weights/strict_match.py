"""Decides whether weights fit a network, and says why they do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from schedsearch.backbones.shape_arguments import differences
from schedsearch.backbones.weights.weight_files import Weights
from schedsearch.backbones.weights.weight_names import (
    MAX_NAMED,
    common_prefix,
    is_bookkeeping,
    name_some,
)
from schedsearch.backbones.wrapped import ADAPTERS
from schedsearch.exceptions import CheckpointError


def matched_state(net: nn.Module, weights: Weights) -> tuple[Mapping[str, Tensor], list[str]]:
    """The weights under the network's names, and notes on what was changed.

    Args:
        net: Network that receives them; not changed here.
        weights: Weights of a file.

    Raises:
        CheckpointError: If they belong to another model, or a copy would change their values.
    """
    own = net.state_dict()
    state, notes = _renamed(weights, own)
    if weights.is_diffusers and "pos_embed" in own and "pos_embed" not in state:
        # NOTE: diffusers does not store the position embedding, because it is fixed.
        state = {**state, "pos_embed": own["pos_embed"]}
    _check_names_and_shapes(own, state, weights)
    _check_types(own, state, weights.path)
    _check_stated(net, weights)
    return state, notes


def check_finite(net: nn.Module, path: Path) -> None:
    """Refuse weights that are NaN or infinite, also after they were cast.

    Raises:
        CheckpointError: If one is, with its name.
    """
    parameters = {name for name, _ in net.named_parameters()}
    wrong = [
        (name, value)
        for name, value in net.state_dict().items()
        if value.is_floating_point()
        # NOTE: A buffer may be a mask of infinities.
        and bool((~value.isfinite() if name in parameters else value.isnan()).any())
    ]
    if wrong:
        name, value = wrong[0]
        bad = int((~value.isfinite()).sum())
        more = f", and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"The checkpoint {path} holds values that are not finite: {name} ({bad} of "
            f"{value.numel()}){more}. The training has diverged: take an earlier checkpoint."
        )


def _renamed(
    weights: Weights, own: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], list[str]]:
    """Weights under the network's names where they differ by a prefix only, and notes."""
    state, notes = weights.state, list(weights.notes)
    before = common_prefix(list(own))
    if before:
        state = {before + name: value for name, value in state.items()}
    if removed := weights.prefix.removesuffix(before):
        notes.append(f"the prefix {removed!r} of its keys was removed")
    state = {n: v for n, v in state.items() if n in own or not is_bookkeeping(n, v)}
    if set(own) <= set(state):
        return state, notes
    # The network may be one attribute of what was saved.
    first = next(iter(own))
    for name in [name for name in state if name.endswith(f".{first}")]:
        prefix = name.removesuffix(first)
        part = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if set(part) == set(own):
            rest = [n for n in state if not n.startswith(prefix)]
            notes.append(f"{prefix!r} was taken; left out were {name_some(rest)}")
            return part, notes
    return state, notes


def _check_names_and_shapes(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Weights
) -> None:
    path = source.path
    if any(n.startswith(ADAPTERS) for n in state) > any(n.startswith(ADAPTERS) for n in own):
        raise CheckpointError(
            f"{path} holds exit adapters, which a schedule file or a backbone cannot use. "
            "Export the trial as a method file, and name it: `schedsearch sample --method FILE`."
        )
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    wrong_shape = [
        f"{name} (file {tuple(state[name].shape)}, model {tuple(value.shape)})"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    found = [
        f"{len(names)} {kind}: {name_some(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", wrong_shape),
        )
        if names
    ]
    if found:
        hint = differences(state, own) or (
            "Compare the section 'backbone' with the model that the file was saved from."
        )
        others = " It holds other sets of weights; name one: " if source.others else ""
        others += ", ".join(f"{path.name}#{name}" for name in source.others[:MAX_NAMED])
        raise CheckpointError(
            f"The checkpoint {path} belongs to another model. Tensors: {'; '.join(found)}. {hint}"
            f"{others}{'.' if others else ''}"
        )


def _check_types(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse values that a copy would change in silence: of integers, without content."""
    for name, value in state.items():
        if value.is_meta:
            kind = "no values (device meta)"
        elif value.is_quantized or (
            own[name].is_floating_point() and not value.is_floating_point()
        ):
            kind = f"{value.dtype} values, as quantised weights have them".replace("torch.", "")
        elif value.layout != torch.strided:
            kind = f"{value.layout} values".replace("torch.", "")
        else:
            continue
        raise CheckpointError(
            f"The checkpoint {path} has {kind}, for example {name}. Save plain float weights."
        )


def _check_stated(net: nn.Module, weights: Weights) -> None:
    """Compare arguments stated in a config beside the file with the network."""
    attention = [
        module for module in net.modules() if isinstance(getattr(module, "num_heads", None), int)
    ]
    in_shape = getattr(net, "in_shape", None)
    own = {
        "num_heads": getattr(attention[0], "num_heads", None) if attention else None,
        "input_size": in_shape[-1] if isinstance(in_shape, tuple) else None,
    }
    for key, value in weights.stated.items():
        if own.get(key) not in (None, value):
            raise CheckpointError(
                f"The config beside {weights.path} has {key} {value}, but the model {own[key]}. "
                f"Set {key}: {value} in the section 'backbone'."
            )
