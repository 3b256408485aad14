"""The module that predicts how wrong an exit is, and a network that carries one.

Shapes: N batch, T patch tokens, D width, C/H/W image, P patch side, E exits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schedsearch.backbones.every_exit import exit_points
from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.backbones.layers import unpatchify
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitLayers, StagedBackbone
from schedsearch.tokens import Around, Tokens

Variant = Literal["paper", "code"]
"""DeeDiff by its paper, whose module predicts the uncertainty u, or by its published code, whose
module predicts the certainty 1 - u."""

PREFIX = "uem."
"""Start of the module's names in a state dict."""


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


class WithUncertainty(nn.Module):
    """A network with an uncertainty module; itself a staged backbone that predicts as before.

    Its state holds the network's own names and those of the module, which start with ``uem.``.

    Args:
        net: The network.
        uem: Its uncertainty module.
    """

    def __init__(self, net: StagedBackbone | nn.Module, uem: UncertaintyModule) -> None:
        super().__init__()
        self.net = cast(nn.Module, net)
        self.uem = uem
        self.register_state_dict_post_hook(_drop_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_prefix)  # type: ignore[no-untyped-call]

    @classmethod
    def of(
        cls,
        net: Backbone | nn.Module,
        *,
        exits: ExitLayers = "decoder",
        shared: bool = False,
        time: bool = True,
        variant: Variant = "paper",
    ) -> WithUncertainty:
        """Give a network an untrained module, on its device and in its dtype.

        Arguments are those of :class:`UncertaintyModule`.

        Raises:
            ConfigError: If the network cannot run block by block.
        """
        stages = staged(cast(Backbone, net), "The uncertainty module")
        uem = UncertaintyModule(stages, exits=exits, shared=shared, time=time, variant=variant)
        return cls(stages, uem.to(next(cast(nn.Module, net).parameters())))

    @classmethod
    def from_state(cls, net: Backbone | nn.Module, state: Mapping[str, Tensor]) -> WithUncertainty:
        """Give a network the module and the weights of a saved state, in eval mode.

        Args:
            net: A network of the same shape.
            state: Names and tensors from :meth:`state_dict`.

        Raises:
            CheckpointError: If the state has no module, or one for another network.
        """
        stages = staged(cast(Backbone, net), "The uncertainty module")
        weight, trained_for = state.get(f"{PREFIX}weight"), state.get(f"{PREFIX}trained_for")
        if weight is None or trained_for is None:
            raise CheckpointError(
                f"The weights hold no uncertainty module: there is no {PREFIX}weight. Use the "
                "file that a trainer with an uncertainty module wrote."
            )
        code, num_exits = trained_for.tolist()
        layouts: tuple[ExitLayers, ...] = ("decoder", "all")
        found = [exits for exits in layouts if len(exit_points(stages, exits)) == num_exits]
        if not found:
            raise CheckpointError(
                f"The uncertainty module judges {num_exits} exits, and this network has "
                f"{len(exit_points(stages))}. The section 'backbone' describes another model."
            )
        whole = cls.of(
            net,
            exits=found[0],
            shared=len(weight) == 1,
            time=weight.shape[-1] > stages.width,
            variant="code" if code else "paper",
        )
        try:
            whole.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"The weights belong to another model: {error}") from error
        return whole.eval()

    @property
    def _stages(self) -> StagedBackbone:
        return cast(StagedBackbone, self.net)

    @property
    def num_exit_blocks(self) -> int:
        """Blocks that a schedule may skip."""
        return self._stages.num_exit_blocks

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one input."""
        return self._stages.in_shape

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None."""
        return self._stages.num_classes

    @property
    def null_label(self) -> int | None:
        """The label that means "no class", or None."""
        return null_label_of(self.net)

    @property
    def learn_sigma(self) -> bool:
        """Whether the network learns variances."""
        return learns_variance(self.net)

    @property
    def patch_size(self) -> int:
        """Side of a patch."""
        return self._stages.patch_size

    @property
    def num_extras(self) -> int:
        """Tokens in front of the patches."""
        return self._stages.num_extras

    @property
    def num_blocks(self) -> int:
        """Blocks in all."""
        return self._stages.num_blocks

    @property
    def width(self) -> int:
        """Width D of a token."""
        return self._stages.width

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute the blocks in the backward pass of training."""
        return bool(cast(Any, self.net).gradient_checkpointing)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enabled: bool) -> None:
        cast(Any, self.net).gradient_checkpointing = enabled

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict as the network does."""
        output: Tensor = self.net(x, t, y, exit_depth=exit_depth)
        return output

    def open(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tokens:
        """Embed a batch."""
        return self._stages.open(x, t, y)

    def run(self, tokens: Tokens, block: int, around: Around | None = None) -> Tokens:
        """Run one block."""
        return self._stages.run(tokens, block, around)

    def close(self, tokens: Tokens, num_run: int, exits: ExitLayers = "decoder") -> Tensor:
        """Predict from the tokens after ``num_run`` blocks."""
        return self._stages.close(tokens, num_run, exits)


def _drop_prefix(
    module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any]
) -> None:
    """Rename ``net.NAME`` to ``NAME`` in a state that was just made."""
    inner = f"{prefix}net."
    for name in [name for name in state if name.startswith(inner)]:
        state[prefix + name.removeprefix(inner)] = state.pop(name)


def _add_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Undo :func:`_drop_prefix` before a state is loaded."""
    for name in [name for name in state if name.startswith(prefix)]:
        if not name.startswith(prefix + PREFIX):
            state[f"{prefix}net.{name.removeprefix(prefix)}"] = state.pop(name)
