"""Exact sharing of work between schedules that agree near the noise.

A solver starts in the noise. Two schedules with equal depths there call the network with equal
inputs until they part. Sorted by their noisy ends, 3,003 schedules of 6 levels, 10 intervals and
20 steps need 16,014 network calls instead of 60,060.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from schedsearch.protocols import Backbone


@dataclass
class _Call:
    x: Tensor
    t: Tensor
    depth: int
    output: Tensor


class PrefixMemo(nn.Module):
    """A backbone that answers a call it has just answered from memory.

    It remembers the newest answer to each call of a run and compares inputs bit for bit. So its
    answers are always those of the network. The order of the schedules decides how many calls
    it saves.

    Args:
        net: The network, in eval mode.
        calls_per_run: Network calls of one evaluation: solver steps times batches.
    """

    def __init__(self, net: Backbone, calls_per_run: int) -> None:
        super().__init__()
        self.net = cast(nn.Module, net)
        self.in_shape, self.num_classes = net.in_shape, net.num_classes
        self.num_exit_blocks = net.num_exit_blocks
        self.null_label = getattr(net, "null_label", net.num_classes)
        self._newest: list[_Call | None] = [None] * calls_per_run
        self._next = 0
        self.num_asked = 0
        """Calls that were answered."""
        self.num_run = 0
        """Calls that the network had to answer."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int) -> Any:
        """Predict as the network does; labels are the same in every run.

        Args:
            x: Noisy inputs, (N, C, H, W).
            t: Times, (N,).
            y: Labels, (N,), or None.
            exit_depth: One depth for the whole batch.
        """
        place, self._next = self._next, (self._next + 1) % len(self._newest)
        self.num_asked += 1
        known = self._newest[place]
        if (
            known is not None
            and known.depth == exit_depth
            and torch.equal(known.t, t)
            and torch.equal(known.x, x)
        ):
            return known.output
        self.num_run += 1
        output = self.net(x, t, y, exit_depth=exit_depth)
        self._newest[place] = _Call(x, t, exit_depth, output)
        return output


def noisy_end_first(schedules: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Schedules, data -> noise, sorted from their noisy ends."""
    return sorted(schedules, key=lambda depths: depths[::-1])
