"""A network that carries an uncertainty module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from torch import Tensor, nn

from schedsearch.backbones.every_exit import exit_points
from schedsearch.backbones.wrapped import WrappedBackbone
from schedsearch.exceptions import CheckpointError
from schedsearch.methods.exits.uncertainty_module import UncertaintyModule, Variant
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitLayers, StagedBackbone

PREFIX = "uem."
"""Start of the module's names in a state dict."""


class WithUncertainty(WrappedBackbone):
    """A network with an uncertainty module; itself a staged backbone that predicts as before.

    Args:
        net: The network.
        uem: Its uncertainty module.
    """

    prefix: ClassVar[str] = PREFIX

    def __init__(self, net: StagedBackbone | nn.Module, uem: UncertaintyModule) -> None:
        super().__init__(net)
        self.uem = uem

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
