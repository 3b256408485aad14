"""A network whose exits run the head on linearly mapped tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from schedsearch.backbones.every_exit import exit_points
from schedsearch.backbones.exits import Exits
from schedsearch.backbones.wrapped import ADAPTERS, WrappedBackbone
from schedsearch.exceptions import ConfigError
from schedsearch.methods.plans.maps import adapted
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitLayers, StagedBackbone
from schedsearch.tokens import Tokens


class WithAdapters(WrappedBackbone):
    """A network with one linear map per exit; itself a staged backbone.

    A sample that exits at depth d runs the head on its mapped tokens. In a U-ViT the long skips
    that are left are then not merged. Full depth, and an exit without a map, are the network's.

    Args:
        net: The network.
        adapters: Maps (D + 1, D) of tokens and a constant, by exit depth.

    Raises:
        ConfigError: If the network has no such exit, or the maps are of another width.
    """

    prefix: ClassVar[str] = ADAPTERS

    def __init__(self, net: StagedBackbone | nn.Module, adapters: Mapping[int, Tensor]) -> None:
        super().__init__(net)
        stages, allowed = self._stages, early_exits(self._stages)
        if missing := [depth for depth in adapters if depth not in allowed]:
            raise ConfigError(
                f"Exit adapters are for exits below full depth, here {allowed[0]} to "
                f"{allowed[-1]}, got {', '.join(map(str, missing))}. Use those of this backbone."
            )
        shapes = {tuple(numbers.shape) for numbers in adapters.values()}
        if shapes - {(stages.width + 1, stages.width)}:
            raise ConfigError(
                f"Exit adapters of this backbone map {stages.width} channels, got maps of "
                f"{', '.join(map(str, shapes))}. Use those of this backbone."
            )
        self.adapters = nn.ParameterDict(
            {str(depth): nn.Parameter(adapters[depth].clone()) for depth in sorted(adapters)}
        )

    @classmethod
    def of(cls, net: Backbone | nn.Module, exits: Iterable[int]) -> WithAdapters:
        """Give a network maps that change nothing, on its device and in its dtype.

        Args:
            net: The network.
            exits: Exit depths.

        Raises:
            ConfigError: If the network cannot run block by block, or has no such exit.
        """
        stages = staged(cast(Backbone, net), "An exit adapter")
        like = next(cast(nn.Module, net).parameters())
        identity = torch.zeros(stages.width + 1, stages.width).to(like)
        identity.fill_diagonal_(1.0)
        return cls(stages, dict.fromkeys(exits, identity))

    @property
    def exits(self) -> tuple[int, ...]:
        """Exit depths that have a map."""
        return tuple(int(depth) for depth in self.adapters)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict; with one depth per sample a block runs only on samples that need it.

        Arguments are those of the network.

        Raises:
            ValueError: If the network has no such exit.
        """
        full = self.num_exit_blocks
        deepest = exit_depth == full
        if bool(deepest.all()) if isinstance(deepest, Tensor) else deepest:
            return super().forward(x, t, y, exit_depth=exit_depth)
        allowed = early_exits(self._stages)
        plan = Exits.of(exit_depth, len(x), range(allowed[0], full + 1), x.device)
        always = self.num_blocks - full
        # Run the blocks; samples leave from the end of the sorted batch.
        tokens = self.open(x, t, y)
        tokens = tokens if plan.order is None else tokens.rows(plan.order)
        outputs: list[Tensor] = []
        for block in range(self.num_blocks):
            alive = plan.num_alive(block - always) if block >= always else len(x)
            if alive < len(tokens.h):
                outputs.append(self.close(tokens.rows(slice(alive, None)), block))
                tokens = tokens.rows(slice(alive))
            if not alive:
                break
            tokens = self.run(tokens, block)
        if len(tokens.h):
            outputs.append(self.close(tokens, self.num_blocks))
        return plan.restore(torch.cat(outputs[::-1]))

    def close(self, tokens: Tokens, num_run: int, exits: ExitLayers = "decoder") -> Tensor:
        """Predict from the tokens after ``num_run`` blocks, mapped where the exit has a map."""
        key = str(num_run - (self.num_blocks - self.num_exit_blocks))
        if key not in self.adapters:
            return super().close(tokens, num_run, exits)
        h = adapted(tokens.h, self.adapters[key])
        return super().close(replace(tokens, h=h, skips=()), self.num_blocks, "all")


def early_exits(net: StagedBackbone) -> range:
    """Exit depths below full depth: from 1 in a DiT, from 0 in a U-ViT."""
    always = net.num_blocks - net.num_exit_blocks
    return range(exit_points(net)[0] - always, net.num_exit_blocks)
