"""A network that carries an uncertainty module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from schedsearch.backbones.every_exit import exit_points
from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.exceptions import CheckpointError
from schedsearch.methods.exits.uncertainty_module import UncertaintyModule, Variant
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitLayers, StagedBackbone
from schedsearch.tokens import Around, Tokens

PREFIX = "uem."
"""Start of the module's names in a state dict."""


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
