"""A way to sample with less compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols.backbone import Backbone


class NetworkCall(Protocol):
    """Calls the network for one sampling run; it may remember what earlier steps computed."""

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict as the network does, or cheaper.

        Args:
            x: Noisy inputs, (N, C, H, W). With guidance, rows with labels, then the same rows
                without.
            t: Network times, (N,), all equal.
            y: Labels, (N,), or None.
            clock: The same time on the clock [0, 1000].
            step: Index of the call in the run, from 0.
        """
        ...


@runtime_checkable
class ObservedCall(NetworkCall, Protocol):
    """A call that keeps account of what it ran."""

    blocks: list[Tensor]
    """Blocks run by every sample, one tensor (N,) per step; half a block counts 0.5."""

    peak_bytes: int
    """Most bytes kept from one step to the next."""


class Method(Protocol):
    """A way to sample with less compute; an exit schedule is one.

    It never changes and holds no state of a run. What a run remembers lives in the call that
    :meth:`begin` returns.
    """

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> NetworkCall:
        """Start one sampling run.

        Args:
            net: The network, in eval mode.
            times: Clock times of the run's network calls, from noise to data.
            guided: Whether the batch holds every sample twice, with and without its label.

        Raises:
            ConfigError: If the method does not fit the network or the number of steps.
        """
        ...
