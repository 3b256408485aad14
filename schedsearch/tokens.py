"""The state of a network between two blocks, for methods that run it block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of a batch of N samples, and what the next blocks need besides them."""

    h: Tensor
    """Tokens, (N, T, D)."""
    time: Tensor
    """Time embedding, (N, D)."""
    condition: Tensor | None = None
    """Condition of every block, (N, D): time and class in a DiT; None in a U-ViT."""
    skips: tuple[Tensor, ...] = ()
    """Encoder outputs that the decoder needs, each (N, T, D), last first."""

    def rows(self, keep: slice | Tensor) -> Tokens:
        """Select samples of every field."""
        return Tokens(
            h=self.h[keep],
            time=self.time[keep],
            condition=None if self.condition is None else self.condition[keep],
            skips=tuple(skip[keep] for skip in self.skips),
        )

    def with_h(self, h: Tensor) -> Tokens:
        """Replace the tokens alone, (N, T, D)."""
        return replace(self, h=h)


class Around(Protocol):
    """Wraps the two sub-blocks of one block: attention and MLP.

    Each hook gets the sub-block and its input, (N, T, D), after norm and modulation. It returns
    the sub-block's output, before the gate.
    """

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the attention, or what replaces it."""
        ...

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the MLP, or what replaces it."""
        ...
