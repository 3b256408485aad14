"""Caches inside the blocks: FORA, and Block Caching with scale and shift (ASE, Table 10).

Outputs of attention and MLP are kept before the gate, so gate and modulation stay fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone

Part = Literal["attention", "mlp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleShift:
    """Corrects reused outputs per channel: ``gamma * cached + beta``."""

    gamma: Tensor
    """(S, L, D), 1 where nothing is reused."""
    beta: Tensor
    """(S, L, D), 0 where nothing is reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCache:
    """Reuses outputs inside blocks; a ``Method``.

    Args:
        every: Recompute all blocks at every k-th step, from the first (FORA); None follows
            ``recompute``.
        recompute: Plan of S steps and L blocks: whether the block computes at the step. The
            first step always does.
        parts: Parts whose outputs are reused.
        scale_shift: Correction of reused attention outputs of a plan; None leaves them.
    """

    every: int | None = None
    recompute: tuple[tuple[bool, ...], ...] | None = None
    parts: tuple[Part, ...] = ("attention", "mlp")
    scale_shift: ScaleShift | None = None

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> BlockCacheRun:
        """Start one sampling run.

        Raises:
            ConfigError: If the plan is for other steps or blocks.
        """
        run_by = staged(net, "A block cache")
        if self.recompute is not None:
            made_for = (len(self.recompute), len(self.recompute[0]))
            found = (len(times), run_by.num_blocks)
            if made_for != found:
                raise ConfigError(
                    f"The cache plan is for {made_for[0]} solver steps and {made_for[1]} blocks, "
                    f"but this run has {found[0]} and {found[1]}. Plan again for them."
                )
        return BlockCacheRun(run_by, self, guided=guided)

    def computes(self, step: int, block: int) -> bool:
        """Whether a block computes at a step."""
        if step == 0:
            return True
        if self.recompute is not None:
            return self.recompute[step][block]
        return self.every is None or step % self.every == 0


class BlockCacheRun(MethodRun):
    """A run with the newest outputs of every block."""

    def __init__(self, net: StagedBackbone, method: BlockCache, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self._method = method
        self._kept: dict[tuple[int, Part], Tensor] = {}

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict, reusing outputs where the plan says so."""
        net, blocks = self.net, 0.0
        tokens = net.open(x, t, y)
        for block in range(net.num_blocks):
            reuse = not self._method.computes(step, block)
            tokens = net.run(tokens, block, _Cached(self._kept, self._method, block, step, reuse))
            blocks += 1.0 - 0.5 * len(self._method.parts) * reuse
        self.note_blocks(blocks, len(x))
        return net.close(tokens, net.num_blocks)

    def held(self) -> list[Tensor]:
        """The newest outputs."""
        return list(self._kept.values())


@dataclass(frozen=True, slots=True)
class _Cached:
    """Wraps one block at one step."""

    kept: dict[tuple[int, Part], Tensor]
    method: BlockCache
    block: int
    step: int
    reuse: bool

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        found = self._run("attention", inner, h)
        correction = self.method.scale_shift
        if self.reuse and correction is not None:
            gamma = correction.gamma[self.step, self.block].to(found)
            return gamma * found + correction.beta[self.step, self.block].to(found)
        return found

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        return self._run("mlp", inner, h)

    def _run(self, part: Part, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        if part not in self.method.parts:
            return inner(h)
        if not self.reuse:
            self.kept[self.block, part] = inner(h)
        return self.kept[self.block, part]
