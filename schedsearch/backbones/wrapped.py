"""A network that carries further parameters and is a staged backbone itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.protocols import ExitLayers, StagedBackbone
from schedsearch.tokens import Around, Tokens

ADAPTERS = "adapters."
"""Start of the names of exit adapters in a state dict."""


class WrappedBackbone(nn.Module):
    """A network with further parameters; it predicts as the network does.

    Its state holds the network's own names and those of the addition, which start with
    ``prefix``. Subclasses add their parameters under that name.

    Args:
        net: The network.
    """

    prefix: ClassVar[str]

    def __init__(self, net: StagedBackbone | nn.Module) -> None:
        super().__init__()
        self.net = cast(nn.Module, net)
        self.register_state_dict_post_hook(_drop_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_prefix)  # type: ignore[no-untyped-call]

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


def _add_prefix(module: WrappedBackbone, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Undo :func:`_drop_prefix` before a state is loaded."""
    for name in [name for name in state if name.startswith(prefix)]:
        if not name.startswith(prefix + module.prefix):
            state[f"{prefix}net.{name.removeprefix(prefix)}"] = state.pop(name)
