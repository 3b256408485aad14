"""Which blocks a pruned network keeps: evenly spaced, most influential, or least loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone


def uniform(num_blocks: int, count: int) -> list[int]:
    """Keep blocks spaced evenly, the first and last among them."""
    if count == 1:
        return [0]
    return [round(i * (num_blocks - 1) / (count - 1)) for i in range(count)]


def by_influence(scores: Sequence[float], count: int) -> list[int]:
    """Keep the blocks with the highest scores, in their order."""
    ranked = sorted(range(len(scores)), key=lambda block: scores[block], reverse=True)
    return sorted(ranked[:count])


def greedy(num_blocks: int, count: int, loss: Callable[[Sequence[int]], float]) -> list[int]:
    """Drop one block after the other, each time the one whose loss rises least.

    Args:
        num_blocks: Blocks of the network.
        count: Blocks that stay.
        loss: Loss of the network that keeps these blocks.
    """
    keep = list(range(num_blocks))
    while len(keep) > count:
        options = [[k for k in keep if k != block] for block in keep]
        keep = min(options, key=loss)
    return keep


@dataclass(frozen=True, slots=True)
class InfluenceRecorder:
    """Runs the full network and records the influence of its blocks; a ``Method``."""

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> InfluenceRun:
        """Start one sampling run."""
        return InfluenceRun(staged(net, "The choice of blocks"), guided=guided)


class InfluenceRun(MethodRun):
    """A run that compares the tokens before and after every block."""

    def __init__(self, net: StagedBackbone, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self._sums = torch.zeros(net.num_blocks, dtype=torch.float64)
        self._steps = 0

    @property
    def scores(self) -> list[float]:
        """Block influence ``1 - mean cos(h_in, h_out)`` (ShortGPT), one per exit block.

        In a U-ViT an encoder block's score is the mean of it and its partner.
        """
        influence: list[float] = (1.0 - self._sums / max(1, self._steps)).tolist()
        exits, total = self.net.num_exit_blocks, self.net.num_blocks
        if exits == total:
            return influence
        return [(influence[i] + influence[total - 1 - i]) / 2 for i in range(exits)]

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict at full depth."""
        tokens = self.net.open(x, t, y)
        for block in range(self.net.num_blocks):
            before = tokens.h
            tokens = self.net.run(tokens, block)
            self._sums[block] += float(F.cosine_similarity(before, tokens.h, dim=-1).mean())
        self._steps += 1
        self.note_blocks(self.net.num_blocks, len(x))
        return self.net.close(tokens, self.net.num_blocks)
