"""T-Stitch: a small network takes the first steps, the large one the rest (2402.14167)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from schedsearch.exceptions import ConfigError
from schedsearch.methods.run import MethodRun
from schedsearch.protocols import Backbone, StagedBackbone


class Stitched(nn.Module):
    """Two networks of one task; as a backbone it is the large one.

    Args:
        large: The pretrained network.
        small: A cheaper network with the same inputs, outputs and classes.

    Raises:
        ConfigError: If the two differ in inputs, classes or learned variances.
    """

    def __init__(self, large: nn.Module, small: nn.Module) -> None:
        super().__init__()
        for name in ("in_shape", "num_classes", "null_label", "learn_sigma"):
            ours, theirs = getattr(large, name, None), getattr(small, name, None)
            if ours != theirs:
                raise ConfigError(
                    f"Two networks that share a sampling run need the same {name}, got {ours} and "
                    f"{theirs}."
                )
        self.large, self.small = large, small
        backbone = cast(Backbone, large)
        self.in_shape = backbone.in_shape
        self.num_classes = backbone.num_classes
        self.num_exit_blocks = backbone.num_exit_blocks
        self.null_label = getattr(large, "null_label", backbone.num_classes)
        self.learn_sigma = bool(getattr(large, "learn_sigma", False))

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, exit_depth: int | Tensor
    ) -> Tensor:
        """Predict with the large network."""
        output: Tensor = self.large(x, t, y, exit_depth=exit_depth)
        return output


@dataclass(frozen=True, slots=True)
class Stitch:
    """Runs the small network at the first steps; a ``Method``.

    Args:
        share: Share of the steps, from the noise, that the small network takes.

    Raises:
        ConfigError: If the share is not in [0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share must lie in [0, 1], got {self.share}.")

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> StitchRun:
        """Start one sampling run.

        Raises:
            ConfigError: If the network is not a :class:`Stitched`.
        """
        if not isinstance(net, Stitched):
            raise ConfigError(
                f"A stitch needs two networks, but got one {type(net).__name__}. Load the method "
                "file with its weights."
            )
        return StitchRun(net, num_small=round(self.share * len(times)), guided=guided)


class StitchRun(MethodRun):
    """A run that changes the network once."""

    def __init__(self, net: Stitched, *, num_small: int, guided: bool) -> None:
        super().__init__(cast(StagedBackbone, net), guided=guided)
        self._num_small = num_small

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict with the network whose turn it is."""
        both = cast(Stitched, self.net)
        net = cast(Backbone, both.small if step < self._num_small else both.large)
        self.note_blocks(float(getattr(net, "num_blocks", net.num_exit_blocks)), len(x))
        output: Tensor = net(x, t, y, exit_depth=net.num_exit_blocks)
        return output
