"""Options that change how a network trains, but not what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn

from schedsearch.backbones.wrapped import WrappedBackbone
from schedsearch.exceptions import ConfigError

TIME_EMBEDDERS = ("t_embedder", "time_embed")
"""Attribute of the time embedder in a DiT and in a U-ViT."""


def freeze_time_embedder(net: nn.Module) -> None:
    """Exclude the time embedder from training (ASE's reference code).

    Raises:
        ConfigError: If the network has no time embedder, or it has no weights.
    """
    inner = net.net if isinstance(net, WrappedBackbone) else net
    for name in TIME_EMBEDDERS:
        embedder = getattr(inner, name, None)
        if not isinstance(embedder, nn.Module):
            continue
        if next(embedder.parameters(), None) is None:
            raise ConfigError(
                f"recipe.freeze_time_embedder has nothing to freeze: '{name}' of this "
                f"{type(net).__name__} has no weights (mlp_time_embed is false); set it to false."
            )
        embedder.requires_grad_(False)
        return
    raise ConfigError(
        "recipe.freeze_time_embedder needs a backbone with the submodule "
        f"{' or '.join(map(repr, TIME_EMBEDDERS))}, but {type(net).__name__} has none; "
        "set it to false."
    )


@contextmanager
def checkpointing(net: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Turn on gradient checkpointing inside the context.

    Args:
        net: Network to train.
        enabled: False changes nothing.

    Raises:
        ConfigError: If the network does not support gradient checkpointing.
    """
    if not enabled:
        yield
        return
    if not hasattr(net, "gradient_checkpointing"):
        raise ConfigError(
            "recipe.gradient_checkpointing needs a backbone with the attribute "
            f"'gradient_checkpointing', but {type(net).__name__} has none; set it to false."
        )
    switch = cast(Any, net)
    before = switch.gradient_checkpointing
    switch.gradient_checkpointing = True
    try:
        yield
    finally:
        switch.gradient_checkpointing = before
