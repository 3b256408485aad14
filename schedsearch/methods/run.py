"""What the runs of all methods share: the staged network and its block counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone, StagedBackbone


class MethodRun(ABC):
    """One sampling run of a method; a :class:`schedsearch.protocols.ObservedCall`.

    Args:
        net: The network, to be run block by block.
        guided: Whether rows n and n + N are one sample, with and without its label.
    """

    def __init__(self, net: StagedBackbone, *, guided: bool) -> None:
        self.net = net
        self.guided = guided
        self.blocks: list[Tensor] = []
        self.peak_bytes = 0

    @abstractmethod
    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""

    def held(self) -> Iterable[Tensor]:
        """Tensors kept from this step to the next."""
        return ()

    def held_bytes(self) -> int:
        """Bytes of the tensors kept now."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.held())

    def note_blocks(self, blocks: float | Tensor, num_rows: int) -> None:
        """Keep account of one step.

        Args:
            blocks: Blocks that ran: one number for the batch, or (N,). Half a block counts 0.5.
            num_rows: Samples N in the batch.
        """
        if not isinstance(blocks, Tensor):
            blocks = torch.full((num_rows,), float(blocks))
        self.blocks.append(blocks)
        self.peak_bytes = max(self.peak_bytes, self.held_bytes())


def staged(net: Backbone, method: str) -> StagedBackbone:
    """Return a network that can be run block by block.

    Args:
        net: The network.
        method: Name of the method, for the message.

    Raises:
        ConfigError: If the network cannot.
    """
    if isinstance(net, StagedBackbone):
        return net
    raise ConfigError(
        f"{method} runs the network block by block, but {type(net).__name__} cannot: it lacks "
        "open, run and close of schedsearch.protocols.StagedBackbone. Add them, or remove the "
        "method."
    )
