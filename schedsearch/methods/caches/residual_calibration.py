"""Fits the polynomial of TeaCache: change of the input to change of the output."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from schedsearch.methods.caches.residual_cache import first_input
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone

DEGREE = 4
"""Degree of the polynomial (TeaCache's code)."""

MIN_R2 = 0.8
"""A worse fit is not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaling:
    """A polynomial, and how well it fits."""

    coefficients: tuple[float, ...] | None
    """Highest power first; None where the fit is too bad, so that changes stay as they are."""
    r2: float
    """Share of the variance that the polynomial explains."""


@dataclass(frozen=True, slots=True)
class ChangeRecorder:
    """Runs the full network and records both changes per step; a ``Method``."""

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> ChangeRun:
        """Start one sampling run."""
        return ChangeRun(staged(net, "TeaCache's fit"), guided=guided)


class ChangeRun(MethodRun):
    """A run that keeps the pairs of changes."""

    def __init__(self, net: StagedBackbone, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.pairs: list[tuple[float, float]] = []
        """Relative L1 change of the first block's input, and of the prediction, per step."""
        self._before: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict at full depth."""
        signal = first_input(self.net, self.net.open(x, t, y))
        output: Tensor = self.net(x, t, y, exit_depth=self.net.num_exit_blocks)
        if self._before is not None:
            old_signal, old_output = self._before
            self.pairs.append((_change(signal, old_signal), _change(output, old_output)))
        self._before = (signal, output)
        self.note_blocks(self.net.num_blocks, len(x))
        return output


def fit_rescaling(pairs: Sequence[tuple[float, float]]) -> Rescaling:
    """Fit a polynomial of degree 4 by least squares.

    Args:
        pairs: Change of the input and of the output, one per step and batch.
    """
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    spread = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    if len(x) <= DEGREE + 1 or spread == 0.0:
        return Rescaling(coefficients=None, r2=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.RankWarning)
        fit = np.polyfit(x, y, DEGREE)
    r2 = 1.0 - float(((np.polyval(fit, x) - y) ** 2).sum()) / spread
    good = r2 >= MIN_R2
    return Rescaling(coefficients=tuple(map(float, fit)) if good else None, r2=r2)


def _change(new: Tensor, old: Tensor) -> float:
    return float((new - old).abs().mean() / old.abs().mean())
