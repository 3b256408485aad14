"""A network that carries an uncertainty module."""

from __future__ import annotations

from typing import ClassVar, cast

from torch import nn

from schedsearch.backbones.wrapped import WrappedBackbone
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
