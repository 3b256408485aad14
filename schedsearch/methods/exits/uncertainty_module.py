"""The module that predicts how wrong an exit is (DeeDiff, Sec. 3.2; BERxiT).

Shapes: N batch, T patch tokens, D width, C/H/W image, P patch side, E exits.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schedsearch.backbones.every_exit import exit_points
from schedsearch.backbones.layers import unpatchify
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import ExitLayers, StagedBackbone
from schedsearch.tokens import Tokens

Variant = Literal["paper", "code"]
"""DeeDiff by its paper or its published code, whose modules predict uncertainty and certainty."""


class UncertaintyModule(nn.Module):
    """Uncertainty estimation module (DeeDiff, Eq. 8): one linear layer per exit, and a sigmoid.

    ``sigmoid(W_i [h_i; e_t] + b_i)`` of the patch tokens and the time embedding. Tokens and
    embedding are detached, so it never changes the network. It starts at zero, as 0.5 everywhere.

    Args:
        net: The network whose exits it judges.
        exits: Where a U-ViT may exit.
        shared: One layer for all exits, as in BERxiT.
        time: Whether it sees the time embedding; DeeDiff's code does not.
        variant: Whether it predicts uncertainty or certainty.
    """

    trained_for: Tensor

    def __init__(
        self,
        net: StagedBackbone,
        *,
        exits: ExitLayers = "decoder",
        shared: bool = False,
        time: bool = True,
        variant: Variant = "paper",
    ) -> None:
        super().__init__()
        num_exits = len(exit_points(net, exits))
        self.patch_size, self.num_extras = net.patch_size, net.num_extras
        self.channels, self.width, self.time = net.in_shape[0], net.width, time
        rows, num_outputs = 1 if shared else num_exits, net.patch_size**2 * self.channels
        num_inputs = (1 + time) * net.width
        # NOTE: Stacked and not a ModuleList, whose entries torch.compile would take for blocks.
        self.weight = nn.Parameter(torch.zeros(rows, num_outputs, num_inputs))
        self.bias = nn.Parameter(torch.zeros(rows, num_outputs))
        # NOTE: A file of weights then knows what they mean, whatever a configuration says.
        self.register_buffer("trained_for", torch.tensor([variant == "code", num_exits]).long())

    @property
    def shared(self) -> bool:
        """Whether all exits share one layer."""
        return len(self.weight) == 1

    @property
    def variant(self) -> Variant:
        """What it predicts: uncertainty in ``paper``, certainty in ``code``."""
        return "code" if int(self.trained_for[0]) else "paper"

    def check_exits(self, num_exits: int, variant: Variant) -> None:
        """Compare with a use of the module.

        Raises:
            ConfigError: If it was trained for another variant or number of exits.
        """
        trained = int(self.trained_for[1])
        if self.variant != variant:
            raise ConfigError(
                f"The uncertainty module was trained with variant {self.variant}; set variant to "
                f"it instead of {variant}."
            )
        if trained != num_exits:
            raise ConfigError(
                f"The uncertainty module was trained for {trained} exits, and the method has "
                f"{num_exits}; set exits as in training."
            )

    def forward(self, tokens: Tokens, exit_index: int) -> Tensor:
        """Predict a map, (N, C, H, W) in (0, 1), from the tokens at an exit.

        Args:
            tokens: What the last block before the exit made.
            exit_index: Index of the exit, from 0.
        """
        return unpatchify(self._pixels(tokens, exit_index), self.patch_size, self.channels)

    def mean_uncertainty(self, tokens: Tokens, exit_index: int) -> Tensor:
        """Average the uncertainty over the pixels of every sample, (N,)."""
        mean = self._pixels(tokens, exit_index).float().flatten(1).mean(1)
        # NOTE: On the device, because a branch would wait for it at every block.
        return torch.where(self.trained_for[0] > 0, 1 - mean, mean)

    def _pixels(self, tokens: Tokens, exit_index: int) -> Tensor:
        """Apply layer and sigmoid, (N, T, P*P*C)."""
        row = 0 if self.shared else exit_index
        weight, bias = self.weight[row], self.bias[row]
        h = tokens.h[:, self.num_extras :].detach().to(weight.dtype)
        logits = F.linear(h, weight[:, : self.width], bias)
        if self.time:
            time = tokens.time.detach().to(weight.dtype)
            # NOTE: Equals one layer on [h; e_t], without repeating e_t over the tokens.
            logits = logits + F.linear(time, weight[:, self.width :])[:, None]
        return logits.sigmoid()
