"""Caches of what the later blocks add: DeepCache-like, FBCache and TeaCache.

The first blocks always run. When the signal says that little has changed, the sum that the other
blocks added at an earlier step is added again. FBCache and TeaCache are public code, read for
behaviour only; DeepCache and Delta-DiT reuse by the step's number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualCache:
    """Reuses the residual of the blocks behind the first ones; a ``Method``.

    Args:
        first: Blocks in front that always run.
        signal: ``steps``: compute at every k-th step. ``residual``: reuse while what the first
            blocks add differs from that of the last computed step by less than the threshold,
            in relative L1 (FBCache). ``input``: reuse while the summed relative L1 change of the
            first block's modulated input stays within the threshold; first and last step
            compute (TeaCache). In a U-ViT that input is normed only.
        threshold: For ``residual`` and ``input``. ``residual``: 0 or less never reuses, 1 or
            more always.
        every: For ``steps``.
        warmup: Steps at the start that always compute, >= 1.
        decide: ``batch``: all images by their mean, as public code does. ``sample``: every
            image by itself; the two rows of a guided image decide together.
        rescale: For ``input``: coefficients of a polynomial, highest power first, that maps the
            change of the input to that of the output. None leaves the change as it is.
    """

    first: int
    signal: Literal["steps", "residual", "input"]
    threshold: float = 0.0
    every: int = 1
    warmup: int = 1
    decide: Literal["batch", "sample"] = "batch"
    rescale: tuple[float, ...] | None = None

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> ResidualCacheRun:
        """Start one sampling run.

        Raises:
            ConfigError: If the network cannot run block by block, or has fewer blocks.
        """
        run_by = staged(net, "A residual cache")
        if self.first > run_by.num_blocks:
            raise ConfigError(
                f"first must be at most {run_by.num_blocks}, the blocks of this network, got "
                f"{self.first}."
            )
        return ResidualCacheRun(run_by, self, num_steps=len(times), guided=guided)


class ResidualCacheRun(MethodRun):
    """A run with the residual and the signal of earlier steps."""

    def __init__(
        self, net: StagedBackbone, method: ResidualCache, *, num_steps: int, guided: bool
    ) -> None:
        super().__init__(net, guided=guided)
        self._method = method
        self._last = num_steps - 1
        self._residual: Tensor | None = None
        self._signal: Tensor | None = None
        self._summed: Tensor | None = None

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict with the blocks, or with the residual of an earlier step."""
        net, first = self.net, self._method.first
        opened = tokens = net.open(x, t, y)
        for block in range(first):
            tokens = net.run(tokens, block)
        reuse = self._reuse(opened, tokens, step)  # (N,) bool
        if self._residual is None or not bool(reuse.any()):
            ended = self._rest(tokens)
            self._residual = ended.h - tokens.h
            h = ended.h
        elif bool(reuse.all()):
            h = tokens.h + self._residual
        else:
            rows = torch.nonzero(~reuse).flatten()
            residual = self._residual.clone()
            residual[rows] = self._rest(tokens.rows(rows)).h - tokens.h[rows]
            self._residual = residual
            h = tokens.h + residual
        self.note_blocks(first + (net.num_blocks - first) * (~reuse).float().cpu(), len(x))
        return net.close(tokens.with_h(h), net.num_blocks, "all")

    def held(self) -> list[Tensor]:
        """The residual, and the signal of the last step."""
        return [kept for kept in (self._residual, self._signal) if kept is not None]

    def _rest(self, tokens: Tokens) -> Tokens:
        for block in range(self._method.first, self.net.num_blocks):
            tokens = self.net.run(tokens, block)
        return tokens

    # ---- the decision ---------------------------------------------------------------------

    def _reuse(self, opened: Tokens, tokens: Tokens, step: int) -> Tensor:
        """Which samples reuse the residual, (N,) bool."""
        method, num_rows = self._method, len(tokens.h)
        must = step < method.warmup or self._residual is None
        if method.signal == "steps":
            reuse = not must and step % method.every != 0
            return torch.full((num_rows,), reuse, device=tokens.h.device)
        if method.signal == "residual":
            return self._by_residual(tokens.h - opened.h, compute=must)
        last = step == self._last
        return self._by_input(first_input(self.net, opened), compute=must or last)

    def _by_residual(self, signal: Tensor, *, compute: bool) -> Tensor:
        threshold = self._method.threshold
        if compute or self._signal is None:
            reuse = torch.zeros(len(signal), dtype=torch.bool, device=signal.device)
        else:
            change = self._change(signal, self._signal)
            reuse = (change < threshold) | (threshold >= 1)
        before = signal if self._signal is None else self._signal
        self._signal = torch.where(reuse[:, None, None], before, signal)
        return reuse

    def _by_input(self, signal: Tensor, *, compute: bool) -> Tensor:
        if self._summed is None or self._signal is None:
            self._summed = torch.zeros(len(signal), dtype=torch.float32, device=signal.device)
        else:
            change = self._change(signal, self._signal)
            self._summed = self._summed + rescaled(change, self._method.rescale)
        reuse = (self._summed <= self._method.threshold) & (self._method.threshold > 0)
        if compute:
            reuse = torch.zeros_like(reuse)
        self._summed = torch.where(reuse, self._summed, torch.zeros_like(self._summed))
        self._signal = signal
        return reuse

    def _change(self, new: Tensor, old: Tensor) -> Tensor:
        """Relative L1 change, (N,); equal for all that decide together."""
        difference = (new - old).abs().float().mean((1, 2))
        size = old.abs().float().mean((1, 2))
        if self._method.decide == "batch":
            ratio = difference.mean() / size.mean()
            return ratio.expand(len(new))
        if self.guided:
            difference, size = (v.view(2, -1).mean(0).repeat(2) for v in (difference, size))
        return difference / size


def rescaled(change: Tensor, coefficients: Sequence[float] | None) -> Tensor:
    """Apply a polynomial, highest power first; never below 0."""
    if coefficients is None:
        return change
    value = torch.zeros_like(change)
    for coefficient in coefficients:
        value = value * change + coefficient
    return value.clamp(min=0)


class _CapturedError(Exception):
    """Ends a block after its first input is known."""

    def __init__(self, h: Tensor) -> None:
        super().__init__()
        self.h = h


class _Capture:
    """Takes the input of a block's attention and runs nothing."""

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> NoReturn:
        raise _CapturedError(h)

    mlp = attention


def first_input(net: StagedBackbone, tokens: Tokens) -> Tensor:
    """The first attention's input after norm and modulation, (N, T, D)."""
    try:
        net.run(tokens, 0, _Capture())
    except _CapturedError as captured:
        return captured.h
    raise AssertionError("a block runs its attention first")
