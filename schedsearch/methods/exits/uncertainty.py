"""Exits where a trained module is certain enough: DeeDiff and BERxiT.

Shapes: N batch, T patch tokens, D width, C/H/W image, P patch side, E exits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor

from schedsearch.backbones.every_exit import exit_points
from schedsearch.exceptions import ConfigError
from schedsearch.methods.exits.exit_run import Decide, ExitDecision, ExitRun, Pair
from schedsearch.methods.exits.uncertainty_module import UncertaintyModule, Variant
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitLayers
from schedsearch.tokens import Tokens

__all__ = ["UncertaintyExit", "UncertaintyModule", "UncertaintyRun", "Variant", "WithUncertainty"]


@dataclass(frozen=True, kw_only=True)
class UncertaintyExit:
    """Exits where the mean predicted uncertainty is below a threshold (DeeDiff, Sec. 3.3).

    A threshold belongs to the weights, and to what they predict: noise, v or data.

    Args:
        threshold: Uncertainty below which a sample exits; 0 never exits, above 1 always.
        decide: Every sample by itself, or the batch by its mean, as DeeDiff's code does.
        pair: With guidance, the two rows of a sample together, or each by itself.
        exits: Where a U-ViT may exit; as in training.
        min_blocks: Fewest blocks to run, encoder and middle block of a U-ViT included.
        patience: 1 exits only if the exit before allowed it too. DeeDiff's code does so in the
            encoder of a U-ViT.
        variant: As in training. The module of ``code`` predicts 1 - uncertainty.

    Raises:
        ConfigError: If the threshold is no number.
    """

    threshold: float
    decide: Decide = "sample"
    pair: Pair = "pair"
    exits: ExitLayers = "decoder"
    min_blocks: int = 1
    patience: Literal[0, 1] = 0
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ConfigError(f"threshold must be a number, got {self.threshold}.")

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> UncertaintyRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`.

        Raises:
            ConfigError: If the network has no uncertainty module, or one for other exits.
        """
        uem = getattr(net, "uem", None)
        if not isinstance(uem, UncertaintyModule):
            raise ConfigError(
                "Exits by uncertainty need a trained uncertainty module, and this "
                f"{type(net).__name__} has none. Train one with trainers.deediff:DeeDiffTrainer."
            )
        stages = staged(net, type(self).__name__)
        uem.check_exits(len(exit_points(stages, self.exits)), self.variant)
        return UncertaintyRun(
            stages,
            guided=guided,
            threshold=self.threshold,
            decision=ExitDecision(
                decide=self.decide,
                pair=self.pair,
                exits=self.exits,
                min_blocks=self.min_blocks,
                patience=self.patience,
            ),
        )


class UncertaintyRun(ExitRun):
    """One sampling run of :class:`UncertaintyExit`."""

    def signal(self, before: Tokens, after: Tokens, exit_index: int) -> Tensor:
        """Return the mean uncertainty of every sample, (N,)."""
        return cast(WithUncertainty, self.net).uem.mean_uncertainty(after, exit_index)
