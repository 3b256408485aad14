"""Runs of the whole network with hooks around its sub-blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.protocols import StagedBackbone
from schedsearch.tokens import Around

Part = Literal["attention", "mlp"]
"""A sub-block of a transformer block."""

PARTS: tuple[Part, ...] = ("attention", "mlp")
"""All sub-blocks, in the order in which they run."""


class PassThrough(Around):
    """Runs both sub-blocks as they are; subclasses replace what they change."""

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the attention."""
        return inner(h)

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the MLP."""
        return inner(h)


class InputProbe(Around):
    """Takes the input of a block's attention, after norm and modulation, and runs nothing."""

    def __init__(self) -> None:
        self.seen: Tensor | None = None

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Keep the input."""
        self.seen = h
        return torch.zeros_like(h)

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Skip the MLP."""
        return torch.zeros_like(h)


def run_around(
    net: StagedBackbone,
    x: Tensor,
    t: Tensor,
    y: Tensor | None,
    arounds: Iterable[Around | None],
) -> Tensor:
    """Call the network at full depth, with one hook per block."""
    tokens = net.open(x, t, y)
    for block, around in enumerate(arounds):
        tokens = net.run(tokens, block, around)
    return net.close(tokens, net.num_blocks)


def check_parts(parts: Iterable[str], method: str) -> None:
    """Refuse sub-blocks that do not exist, or none.

    Raises:
        ConfigError: If ``parts`` is empty or names another part.
    """
    named = tuple(parts)
    if not named or not set(named) <= set(PARTS) or len(set(named)) < len(named):
        raise ConfigError(
            f"parts of {method} must be attention, mlp or both, each once, got {list(named)}."
        )
