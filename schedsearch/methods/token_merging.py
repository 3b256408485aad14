"""Token merging for diffusion (ToMe; ASE, Tables 8 and 9): fewer tokens inside some blocks.

The patches are a grid. One token of every 2 x 2 cell is a destination, the others are sources.
The sources most like a destination are averaged into it before attention or MLP, and get its
output afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from schedsearch.exceptions import ConfigError
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone

MAX_RATIO = 0.75
"""Three of four tokens are sources, so no more can be merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMerging:
    """Merges similar tokens in some blocks; a ``Method``.

    Args:
        ratio: Share of the patches that is merged, at most 0.75.
        blocks: ``all``, or the first (F4), last (R4), or first and last (B4: two at each end)
            blocks.
        parts: Parts of a block that run on merged tokens.
        random: Draw the destination of every cell instead of taking its first token.
        seed: Seed of these draws, the same for every run.
    """

    ratio: float
    blocks: str = "all"
    parts: tuple[Literal["attention", "mlp"], ...] = ("attention",)
    random: bool = False
    seed: int = 0

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> TokenMergingRun:
        """Start one sampling run.

        Raises:
            ConfigError: If the network has too few blocks, or its patches make no even grid.
        """
        run_by = staged(net, "Token merging")
        side = run_by.in_shape[-1] // run_by.patch_size
        if side % 2:
            raise ConfigError(
                f"Token merging needs an even grid of patches, but this network has {side} x "
                f"{side}. Remove the entry of kind tome."
            )
        return TokenMergingRun(run_by, self, side=side, guided=guided)

    def merges(self, block: int, num_blocks: int) -> bool:
        """Whether a block runs on merged tokens.

        Raises:
            ConfigError: If the pattern names more blocks than there are.
        """
        if self.blocks == "all":
            return True
        found = re.fullmatch(r"([FRB])(\d+)", self.blocks)
        count = int(found[2]) if found else 0
        if found is None or count > num_blocks or (found[1] == "B" and count % 2):
            raise ConfigError(
                f"Token merging takes all, F4, R4 or B4 with at most {num_blocks} blocks, an even "
                f"number for B, but got {self.blocks!r}."
            )
        front = {"F": count, "R": 0, "B": count // 2}[found[1]]
        back = {"F": 0, "R": count, "B": count // 2}[found[1]]
        return block < front or block >= num_blocks - back


class TokenMergingRun(MethodRun):
    """A run that keeps nothing between steps."""

    def __init__(
        self, net: StagedBackbone, method: TokenMerging, *, side: int, guided: bool
    ) -> None:
        super().__init__(net, guided=guided)
        self._method = method
        self._side = side
        self._merged = [method.merges(block, net.num_blocks) for block in range(net.num_blocks)]
        self._generator = torch.Generator().manual_seed(method.seed)

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict with all blocks, some of them on fewer tokens."""
        net, method = self.net, self._method
        generator = self._generator if method.random else None
        targets = destinations(self._side, generator).to(x.device)
        num_merged = min(int(method.ratio * self._side**2), int(MAX_RATIO * self._side**2))
        tokens = net.open(x, t, y)
        for block, merges in enumerate(self._merged):
            around = None
            if merges and num_merged:
                matching = match(tokens.h, targets, num_merged, net.num_extras)
                around = _Merged(matching, method.parts)
            tokens = net.run(tokens, block, around)
        self.note_blocks(net.num_blocks, len(x))
        return net.close(tokens, net.num_blocks)


def destinations(side: int, generator: torch.Generator | None) -> Tensor:
    """Indices of one patch per 2 x 2 cell of a grid, (side * side / 4,).

    Args:
        side: Patches per side, even.
        generator: Draws the patch of every cell; None takes the top left one.
    """
    half = side // 2
    offset = torch.zeros(half, half, dtype=torch.long)
    if generator is not None:
        offset = torch.randint(4, (half, half), generator=generator)
    rows = 2 * torch.arange(half)[:, None] + offset // 2
    columns = 2 * torch.arange(half)[None, :] + offset % 2
    return (rows * side + columns).flatten()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Which tokens of every sample are merged into which."""

    extras: Tensor
    """Indices of tokens that are no patches, (E,)."""
    targets: Tensor
    """Indices of destinations, (M,)."""
    kept: Tensor
    """Indices of sources that stay, (N, T - M - r)."""
    merged: Tensor
    """Indices of sources that are merged, (N, r)."""
    into: Tensor
    """For each of these, the position of its destination in ``targets``, (N, r)."""

    def merge(self, h: Tensor) -> Tensor:
        """Average the merged sources into their destinations: (N, E + T, D) to r fewer."""
        width = h.shape[-1]
        sources = h.gather(1, _wide(self.merged, width))
        averaged = h[:, self.targets].scatter_reduce(
            1, _wide(self.into, width), sources, "mean", include_self=True
        )
        return torch.cat(
            [h[:, self.extras], h.gather(1, _wide(self.kept, width)), averaged], dim=1
        )

    def unmerge(self, h: Tensor) -> Tensor:
        """Copy every output back to the tokens that it stands for."""
        width, num_extras, num_kept = h.shape[-1], len(self.extras), self.kept.shape[1]
        extras, kept, averaged = h.tensor_split([num_extras, num_extras + num_kept], dim=1)
        total = num_extras + num_kept + len(self.targets) + self.merged.shape[1]
        full = h.new_empty(len(h), total, width)
        full[:, self.extras] = extras
        full[:, self.targets] = averaged
        full.scatter_(1, _wide(self.kept, width), kept)
        full.scatter_(1, _wide(self.merged, width), averaged.gather(1, _wide(self.into, width)))
        return full


def match(h: Tensor, targets: Tensor, num_merged: int, num_extras: int) -> Matching:
    """Choose the sources that are most like a destination, by cosine.

    Args:
        h: Tokens at the input of a block, (N, E + T, D).
        targets: Patches that are destinations, (M,).
        num_merged: Sources to merge, r.
        num_extras: Tokens E in front of the patches, never merged.
    """
    targets = targets + num_extras
    total = h.shape[1]
    is_source = torch.ones(total, dtype=torch.bool, device=h.device)
    is_source[targets] = False
    is_source[:num_extras] = False
    sources = torch.nonzero(is_source).flatten()
    unit = F.normalize(h, dim=-1)
    likeness, into = (unit[:, sources] @ unit[:, targets].transpose(1, 2)).max(-1)  # (N, T - M)
    order = likeness.argsort(dim=1, descending=True, stable=True)
    first, rest = order[:, :num_merged], order[:, num_merged:]
    return Matching(
        extras=torch.arange(num_extras, device=h.device),
        targets=targets,
        kept=sources[rest],
        merged=sources[first],
        into=into.gather(1, first),
    )


@dataclass(frozen=True, slots=True)
class _Merged:
    matching: Matching
    parts: tuple[str, ...]

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        return self._run("attention", inner, h)

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        return self._run("mlp", inner, h)

    def _run(self, part: str, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        if part not in self.parts:
            return inner(h)
        return self.matching.unmerge(inner(self.matching.merge(h)))


def _wide(index: Tensor, width: int) -> Tensor:
    return index[..., None].expand(*index.shape, width)
