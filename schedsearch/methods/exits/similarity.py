"""Exits where a block changes the tokens little (CALM, with DeeDiff's choice of the signal)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from schedsearch.exceptions import ConfigError
from schedsearch.methods.exits.exit_run import Decide, ExitDecision, ExitRun, Pair
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitLayers
from schedsearch.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class SimilarityExit:
    """Exits after block i if ``cos(h_i, h_{i-1}) > threshold``, as a mean over patch tokens.

    The threshold is constant; the original's decay along the sequence has no counterpart here.

    Args:
        threshold: Similarity above which a sample exits; 1 or more never exits.
        decide: Every sample by itself, or the batch by its mean.
        pair: With guidance, the two rows of a sample together, or each by itself.
        exits: Where a U-ViT may exit.
        min_blocks: Fewest blocks to run, at least 2, since the first has no predecessor.

    Raises:
        ConfigError: If the threshold is no number or ``min_blocks`` is below 2.
    """

    threshold: float
    decide: Decide = "sample"
    pair: Pair = "pair"
    exits: ExitLayers = "decoder"
    min_blocks: int = 2

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ConfigError(f"threshold must be a number, got {self.threshold}.")
        if self.min_blocks < 2:
            raise ConfigError(
                "min_blocks must be at least 2 with exits by similarity, which compare two "
                f"blocks, got {self.min_blocks}."
            )

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> SimilarityRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return SimilarityRun(
            staged(net, type(self).__name__),
            guided=guided,
            threshold=-self.threshold,
            decision=ExitDecision(
                decide=self.decide,
                pair=self.pair,
                exits=self.exits,
                min_blocks=self.min_blocks,
            ),
        )


class SimilarityRun(ExitRun):
    """One sampling run of :class:`SimilarityExit`."""

    def signal(self, before: Tokens, after: Tokens, exit_index: int) -> Tensor:
        """Return the negative cosine similarity of two blocks, (N,)."""
        first = self.net.num_extras
        cosine = F.cosine_similarity(before.h[:, first:].float(), after.h[:, first:].float(), -1)
        return -cosine.mean(1)
