"""Token merging (Bolya and Hoffman 2023): sub-blocks run on fewer tokens.

Each 2 x 2 cell of the patch grid has one destination; the other three tokens are sources. The r
sources most like a destination are averaged into it, and copied back after the sub-block.

Shapes: N batch, T patches of the grid, E extra tokens in front of them, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from schedsearch.exceptions import ConfigError
from schedsearch.methods.around import Part, check_parts
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Around


@dataclass(frozen=True, slots=True)
class TokenMerging:
    """Merges similar tokens before the sub-blocks of some blocks.

    Args:
        blocks: ``all``, or a letter and a number: the first (F4), the last (R2), or half of
            them at each end (B8).
        ratio: Share of the patches to merge away, in [0, 1]; at most 3/4 are.
        parts: Sub-blocks that run on fewer tokens.
        random: Draw the destination of each cell. If False it is the top left token.
        seed: Seed of the draws; they also depend on step and block.

    Raises:
        ConfigError: If an argument is out of range.
    """

    blocks: str
    ratio: float
    parts: tuple[Part, ...] = ("attention",)
    random: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_parts(self.parts, "token merging")
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"ratio of token merging must be in [0, 1], got {self.ratio}.")
        if not re.fullmatch(r"all|[FR]\d+|B\d*[02468]", self.blocks):
            raise ConfigError(
                "blocks of token merging must be all, F or R and a number, or B and an even "
                f"number, such as F4 or B8, got {self.blocks!r}."
            )

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> TokenMergingRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        stages = staged(net, "Token merging")
        side = stages.in_shape[1] // stages.patch_size
        if side % 2:
            raise ConfigError(
                "Token merging needs an even number of patches per side, but the network has "
                f"{side} x {side} patches."
            )
        merged = merged_blocks(self.blocks, stages.num_blocks)
        return TokenMergingRun(stages, self, merged, side, guided=guided)


def merged_blocks(blocks: str, num_blocks: int) -> frozenset[int]:
    """Return the blocks that a text such as ``B8`` names.

    Raises:
        ConfigError: If the network has fewer.
    """
    if blocks == "all":
        return frozenset(range(num_blocks))
    end, num = blocks[0], int(blocks[1:])
    if num > num_blocks:
        raise ConfigError(
            f"Token merging in {blocks} needs {num} blocks, but the network has {num_blocks}."
        )
    front, back = {"F": (num, 0), "R": (0, num), "B": (num // 2, num // 2)}[end]
    return frozenset([*range(front), *range(num_blocks - back, num_blocks)])


class TokenMergingRun(MethodRun):
    """One sampling run of :class:`TokenMerging`; it keeps nothing from step to step."""

    def __init__(
        self,
        net: StagedBackbone,
        method: TokenMerging,
        merged: frozenset[int],
        side: int,
        *,
        guided: bool,
    ) -> None:
        super().__init__(net, guided=guided)
        self._method = method
        self._merged = merged
        self._side = side
        self._num_merged = min(int(method.ratio * side**2), 3 * side**2 // 4)

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        corners = torch.zeros(self._side**2 // 4, dtype=torch.long)
        split = split_grid(self._side, corners, x.device)
        tokens = self.net.open(x, t, y)
        for block in range(self.net.num_blocks):
            around = None
            if self._num_merged and block in self._merged:
                if self._method.random:
                    split = split_grid(self._side, self._draw(step, block), x.device)
                groups = Groups.match(tokens.h, self.net.num_extras, split, self._num_merged)
                around = MergedBlock(groups, self._method.parts)
            tokens = self.net.run(tokens, block, around)
        self.note_blocks(self.net.num_blocks, len(x))
        return self.net.close(tokens, self.net.num_blocks)

    def _draw(self, step: int, block: int) -> Tensor:
        """Draw the destination of each cell, (T / 4,) in 0..3."""
        rng = np.random.default_rng([self._method.seed, step, block])
        return torch.from_numpy(rng.integers(4, size=self._side**2 // 4))


def split_grid(side: int, corners: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Split the patches of a grid into destinations and sources.

    Args:
        side: Patches per side, even.
        corners: Which of its four tokens, in row-major order, is a cell's destination, (T / 4,).
        device: Device of the results.

    Returns:
        Positions of the destinations, (T / 4,), and of the sources, (3 T / 4,).
    """
    half = side // 2
    grid = torch.arange(side**2).reshape(half, 2, half, 2).transpose(1, 2).reshape(-1, 4)
    chosen = F.one_hot(corners, 4).bool()
    return grid[chosen].to(device), grid[~chosen].to(device)


@dataclass(frozen=True, slots=True)
class Groups:
    """Which tokens of each sample are merged.

    Args:
        index: Group of each token, counted over the whole batch, (N, E + T).
        num: Groups per sample.
    """

    index: Tensor
    num: int

    @classmethod
    def match(
        cls, h: Tensor, num_extras: int, split: tuple[Tensor, Tensor], num_merged: int
    ) -> Groups:
        """Match every source with the destination most like it, by cosine.

        Args:
            h: Tokens, (N, E + T, D).
            num_extras: Tokens E in front; each stays alone.
            split: Positions of destinations and sources in the grid.
            num_merged: Sources r to merge.
        """
        destinations, sources = (positions + num_extras for positions in split)
        unit = F.normalize(h, dim=-1)
        scores = unit[:, sources] @ unit[:, destinations].transpose(1, 2)
        best, nearest = scores.max(-1)  # (N, sources)
        order = best.argsort(dim=-1, descending=True, stable=True)
        merged, alone = order[:, :num_merged], order[:, num_merged:]
        # Number the groups: extras, sources that stay alone, destinations.
        first = num_extras + alone.shape[1]
        num = first + len(destinations)
        index = torch.arange(h.shape[1], device=h.device).repeat(len(h), 1)
        index[:, destinations] = first + torch.arange(len(destinations), device=h.device)
        numbers = num_extras + torch.arange(alone.shape[1], device=h.device)
        index.scatter_(1, sources[alone], numbers.expand_as(alone))
        index.scatter_(1, sources[merged], first + nearest.gather(1, merged))
        offsets = num * torch.arange(len(h), device=h.device)
        return cls(index + offsets[:, None], num)

    def merge(self, h: Tensor) -> Tensor:
        """Average the tokens of each group, (N, E + T, D) -> (N, groups, D)."""
        n, _, width = h.shape
        index = self.index.flatten()
        sums = h.new_zeros(n * self.num, width).index_add_(0, index, h.flatten(0, 1))
        sizes = h.new_zeros(n * self.num).index_add_(0, index, h.new_ones(len(index)))
        return (sums / sizes[:, None]).reshape(n, self.num, width)

    def unmerge(self, h: Tensor) -> Tensor:
        """Copy each group to its tokens, (N, groups, D) -> (N, E + T, D)."""
        return h.flatten(0, 1)[self.index]


class MergedBlock(Around):
    """Runs the sub-blocks of one block on merged tokens."""

    def __init__(self, groups: Groups, parts: tuple[Part, ...]) -> None:
        self._groups = groups
        self._parts = parts

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the attention on merged tokens, if it is one of the parts."""
        return self._run(inner, h) if "attention" in self._parts else inner(h)

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the MLP on merged tokens, if it is one of the parts."""
        return self._run(inner, h) if "mlp" in self._parts else inner(h)

    def _run(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        return self._groups.unmerge(inner(self._groups.merge(h)))
