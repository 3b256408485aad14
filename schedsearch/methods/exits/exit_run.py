"""Sampling runs in which each sample exits alone, or the batch by its mean."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from schedsearch.backbones.every_exit import exit_points
from schedsearch.exceptions import ConfigError
from schedsearch.methods.run import MethodRun
from schedsearch.protocols import ExitLayers, StagedBackbone
from schedsearch.tokens import Tokens

Decide = Literal["sample", "batch"]
"""Whether a sample exits by itself, or all by their mean. With ``batch`` an image depends on
its neighbours."""

Pair = Literal["pair", "separate"]
"""With guidance: whether the two rows of a sample exit together, by their mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitDecision:
    """Who decides on an exit, and where.

    Args:
        decide: Every sample, or the batch.
        pair: The two rows of a guided sample together, or each.
        exits: Where a U-ViT may exit.
        min_blocks: Fewest blocks to run, encoder and middle block of a U-ViT included.
        patience: 1 exits only if the exit before allowed it too.
    """

    decide: Decide = "sample"
    pair: Pair = "pair"
    exits: ExitLayers = "decoder"
    min_blocks: int = 1
    patience: Literal[0, 1] = 0


class ExitRun(MethodRun):
    """One sampling run with dynamic exits.

    Samples that exit leave the batch, so a block runs only on the others. The output layer runs
    only at a sample's exit. Without an exit all blocks run.

    Args:
        net: The network.
        guided: Whether rows n and n + N are one sample.
        threshold: A sample exits where its signal is below.
        decision: Who decides.

    Raises:
        ConfigError: If the network has fewer blocks than ``min_blocks``.
    """

    def __init__(
        self, net: StagedBackbone, *, guided: bool, threshold: float, decision: ExitDecision
    ) -> None:
        super().__init__(net, guided=guided)
        self.threshold, self.decision = threshold, decision
        self.points = exit_points(net, decision.exits)
        if not 1 <= decision.min_blocks <= net.num_blocks:
            raise ConfigError(
                f"min_blocks must lie in 1..{net.num_blocks}, the blocks of this network, got "
                f"{decision.min_blocks}."
            )

    @abstractmethod
    def signal(self, before: Tokens, after: Tokens, exit_index: int) -> Tensor:
        """Return what the decision compares with the threshold, (N,); low means exit.

        Args:
            before: What the last block got.
            after: What it made.
            exit_index: Index of the exit, from 0.
        """

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        tokens = self.net.open(x, t, y)
        rows = torch.arange(len(x))  # the batch rows that still run
        depths = torch.zeros(len(x))
        waiting = torch.full((len(x),), self.decision.patience)  # passes that are still missing
        exited: list[tuple[Tensor, Tensor]] = []
        for num_run in range(1, self.net.num_blocks + 1):
            before, tokens = tokens, self.net.run(tokens, num_run - 1)
            if num_run == self.net.num_blocks:
                leaves = torch.ones(len(rows), dtype=torch.bool)
            elif num_run in self.points and num_run >= self.decision.min_blocks:
                passes = self._passes(before, tokens, num_run, len(x))
                leaves = passes & (waiting == 0)
                waiting = torch.where(passes, 0, self.decision.patience)
            else:
                continue
            if not leaves.any():
                continue
            leaving, staying = leaves.nonzero()[:, 0], (~leaves).nonzero()[:, 0]
            depths[rows[leaving]] = num_run
            part = tokens if not len(staying) else tokens.rows(leaving.to(x.device))
            exited.append((rows[leaving], self.net.close(part, num_run, self.decision.exits)))
            if not len(staying):
                break
            tokens = tokens.rows(staying.to(x.device))
            rows, waiting = rows[staying], waiting[staying]
        self.note_blocks(depths, len(x))
        return _in_order(exited)

    def _passes(self, before: Tokens, after: Tokens, num_run: int, num_rows: int) -> Tensor:
        """Compare the signals of the running rows, (n,), with the threshold, on the CPU."""
        signal = self.signal(before, after, num_run - self.points[0]).float()
        passes = self._group_means(signal, num_rows) < self.threshold
        # NOTE: The only wait for the device per block.
        return passes.cpu()

    def _group_means(self, signal: Tensor, num_rows: int) -> Tensor:
        """Average over the rows that exit together; they stay in the order of the batch."""
        together = self.guided and self.decision.pair == "pair"
        if self.decision.decide == "sample":
            return signal.view(2, -1).mean(0).repeat(2) if together else signal
        size = num_rows // 2 if self.guided and not together else num_rows
        return signal.view(-1, size).mean(1).repeat_interleave(size)


def _in_order(exited: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Put the predictions of all exits back into the order of the batch."""
    if len(exited) == 1:
        return exited[0][1]
    order = torch.cat([rows for rows, _ in exited]).argsort()
    images = torch.cat([image for _, image in exited])
    return images[order.to(images.device)]
