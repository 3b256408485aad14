"""Calibration of TeaCache: how the network's output follows the input of its first block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.residual_cache import first_input, relative_change
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone

DEGREE = 4
"""Degree of the polynomial (TeaCache, Sec. 3)."""

MIN_R2 = 0.8
"""A polynomial that explains less of the output's change is not used."""


@dataclass(frozen=True, slots=True)
class InputRecording:
    """Full depth; records pairs of input change and output change."""

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> InputRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return InputRun(staged(net, "The calibration of a cache"), guided=guided)


class InputRun(MethodRun):
    """One sampling run of :class:`InputRecording`.

    Attributes:
        pairs: Relative L1 changes against the step before, one pair per step but the first:
            of the first block's input, and of the network's output.
    """

    def __init__(self, net: StagedBackbone, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.pairs: list[tuple[float, float]] = []
        self._before: tuple[Tensor, ...] = ()

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        tokens = self.net.open(x, t, y)
        signal = first_input(self.net, tokens)
        for block in range(self.net.num_blocks):
            tokens = self.net.run(tokens, block)
        output = self.net.close(tokens, self.net.num_blocks)
        if self._before:
            signal_before, output_before = self._before
            change = float(relative_change(signal, signal_before))
            self.pairs.append((change, float(relative_change(output, output_before))))
        self._before = (signal, output)
        self.note_blocks(self.net.num_blocks, len(x))
        return output

    def held(self) -> tuple[Tensor, ...]:
        """Input and output of the step before."""
        return self._before


@dataclass(frozen=True, slots=True)
class RescaleFit:
    """A fitted polynomial and how well it fits."""

    rescale: tuple[float, ...] | None
    """``rescale`` of a residual cache, highest power first; None, the identity, if R^2 < 0.8."""
    r2: float
    """Share of the variance of the output's change that the polynomial explains."""


def fit_rescale(pairs: Iterable[tuple[float, float]]) -> RescaleFit:
    """Fit the output's change by a polynomial in the input's change.

    Args:
        pairs: The pairs of one or more runs.

    Raises:
        ConfigError: If there are too few pairs.
    """
    recorded = np.array(list(pairs), dtype=np.float64).reshape(-1, 2)
    if len(recorded) < DEGREE + 2:
        raise ConfigError(
            f"To fit TeaCache's polynomial takes at least {DEGREE + 2} pairs of steps, got "
            f"{len(recorded)}; calibrate on more steps or batches, or leave out the fit."
        )
    inputs, outputs = recorded.T
    coefficients = np.polyfit(inputs, outputs, DEGREE)
    error = float(np.sum((np.polyval(coefficients, inputs) - outputs) ** 2))
    spread = float(np.sum((outputs - outputs.mean()) ** 2))
    r2 = 1.0 - error / spread if spread > 0 else 0.0
    return RescaleFit(tuple(map(float, coefficients)) if r2 >= MIN_R2 else None, r2)
