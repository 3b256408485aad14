"""Caches of what many blocks add: DeepCache-like, FBCache and TeaCache.

The middle blocks run, or a step adds what they added when they last ran. DeepCache-like rules
run them every k-th step. FBCache watches what the first blocks add, TeaCache the input of block 0.

Shapes: N batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.around import InputProbe
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Tokens

Signal = Literal["steps", "residual", "input"]
Decide = Literal["batch", "sample"]


@dataclass(frozen=True, slots=True)
class ResidualCache:
    """Reuses what the middle blocks add to the tokens.

    Args:
        first: Blocks at the front that always run.
        signal: What decides. ``steps``: run all every ``every`` steps. ``residual`` (FBCache):
            reuse while the change of what the first blocks add stays below ``threshold``.
            ``input`` (TeaCache): reuse until the changes of block 0's input add up to it.
        threshold: Bound on the relative L1 change. For ``residual``, 1 or more always reuses.
        every: Period of ``steps``.
        warmup: Steps at the start that run all blocks; the first always does.
        decide: One decision per batch, or per sample. With guidance both rows of a sample
            decide together.
        rescale: Polynomial that ``input`` applies to a change, highest power first. None is
            the identity.
        last: Blocks at the end that always run.

    Raises:
        ConfigError: If the arguments contradict each other.
    """

    first: int
    signal: Signal
    threshold: float | None = None
    every: int | None = None
    warmup: int = 1
    decide: Decide = "batch"
    rescale: tuple[float, ...] | None = None
    last: int = 0

    def __post_init__(self) -> None:
        if self.signal not in ("steps", "residual", "input"):
            raise ConfigError(f"signal must be steps, residual or input, got {self.signal!r}.")
        if self.decide not in ("batch", "sample"):
            raise ConfigError(f"decide must be batch or sample, got {self.decide!r}.")
        by_steps = self.signal == "steps"
        if (self.every is not None) != by_steps or (self.threshold is None) != by_steps:
            raise ConfigError(
                "A residual cache needs every with signal: steps, and threshold with the others."
            )
        if self.every is not None and self.every < 1:
            raise ConfigError(f"every of a residual cache must be at least 1, got {self.every}.")
        if min(self.first, self.last, self.warmup) < 0:
            raise ConfigError("first, last and warmup of a residual cache must not be negative.")
        if self.signal == "residual" and self.first < 1:
            raise ConfigError("signal: residual watches the first blocks; set first to 1 or more.")
        if self.rescale is not None and self.signal != "input":
            raise ConfigError("rescale of a residual cache belongs to signal: input.")

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> ResidualCacheRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        stages = staged(net, "A residual cache")
        if self.first + self.last > stages.num_blocks:
            raise ConfigError(
                f"first and last must be at most the network's {stages.num_blocks} blocks "
                f"together, got {self.first} + {self.last}."
            )
        if stages.num_blocks > stages.num_exit_blocks and self.last > self.first:
            raise ConfigError(
                f"The last blocks of a U-ViT need the long skips of as many first ones; set last "
                f"to at most first = {self.first}, got {self.last}."
            )
        return ResidualCacheRun(stages, self, len(times), guided=guided)


class ResidualCacheRun(MethodRun):
    """One sampling run of :class:`ResidualCache`."""

    def __init__(
        self, net: StagedBackbone, method: ResidualCache, num_steps: int, *, guided: bool
    ) -> None:
        super().__init__(net, guided=guided)
        self._method = method
        self._middle = range(method.first, net.num_blocks - method.last)
        self._num_steps = num_steps
        self._residual: Tensor | None = None
        self._signal: Tensor | None = None
        self._added: Tensor | None = None

    def held(self) -> list[Tensor]:
        """What the middle blocks added, and the signal to compare with."""
        kept = (self._residual, self._signal, self._added)
        return [tensor for tensor in kept if tensor is not None]

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        num_blocks, last = self.net.num_blocks, self._method.last
        # Run the first blocks.
        opened = self.net.open(x, t, y)
        tokens = opened
        for block in range(self._method.first):
            tokens = self.net.run(tokens, block)
        # Run the middle, or add what it added.
        reused = self._decide(opened, tokens, step).cpu()
        h = self._through_middle(tokens, reused)
        self.note_blocks(num_blocks - len(self._middle) * reused.float(), len(x))
        # Run the last blocks.
        # NOTE: The last n decoder blocks of a U-ViT use the skips of its first n blocks.
        tokens = replace(tokens, h=h, skips=tokens.skips[:last])
        for block in range(num_blocks - last, num_blocks):
            tokens = self.net.run(tokens, block)
        return self.net.close(tokens, num_blocks, "all")

    def _through_middle(self, tokens: Tokens, reused: Tensor) -> Tensor:
        """Return the tokens after the middle, (N, T, D)."""
        before = tokens.h
        if self._residual is not None and bool(reused.all()):
            return before + self._residual
        if self._residual is None or not bool(reused.any()):
            h = self._run_middle(tokens)
            self._residual = h - before
            return h
        rows = (~reused).nonzero().flatten().to(before.device)
        h = self._run_middle(tokens.rows(rows))
        cached = before + self._residual
        self._residual = self._residual.index_copy(0, rows, h - before[rows])
        return cached.index_copy(0, rows, h)

    def _run_middle(self, tokens: Tokens) -> Tensor:
        for block in self._middle:
            tokens = self.net.run(tokens, block)
        return tokens.h

    # ---- decisions ------------------------------------------------------------------------

    def _decide(self, opened: Tokens, tokens: Tokens, step: int) -> Tensor:
        """Return which samples reuse what the middle added, (N,) bool."""
        warming = self._residual is None or step < self._method.warmup
        if self._method.signal == "residual":
            reused = self._by_residual(tokens.h - opened.h, warming=warming)
        elif self._method.signal == "input":
            # NOTE: As in TeaCache's code, the last step runs all blocks too.
            warming = warming or step + 1 == self._num_steps
            reused = self._by_input(first_input(self.net, opened), warming=warming)
        else:
            assert self._method.every is not None
            reused = torch.tensor(not warming and step % self._method.every != 0)
        return reused.expand(len(tokens.h))

    def _by_residual(self, signal: Tensor, *, warming: bool) -> Tensor:
        """Compare with the last step that ran the middle (FBCache)."""
        assert self._method.threshold is not None
        if warming or self._signal is None:
            self._signal = signal
            return torch.tensor(False)
        if self._method.threshold >= 1:
            return torch.tensor(True)
        reused = self._change(signal, self._signal) < self._method.threshold
        if self._method.decide == "batch":
            if not reused:
                self._signal = signal
        else:
            self._signal = torch.where(reused[:, None, None], self._signal, signal)
        return reused

    def _by_input(self, signal: Tensor, *, warming: bool) -> Tensor:
        """Add up the changes of every step until they reach the threshold (TeaCache)."""
        assert self._method.threshold is not None
        before, self._signal = self._signal, signal
        if warming or before is None:
            self._added = None
            return torch.tensor(False)
        change = self._change(signal, before)
        if self._method.rescale is not None:
            change = polynomial(self._method.rescale, change)
        added = change if self._added is None else self._added + change
        reused = added < self._method.threshold
        self._added = torch.where(reused, added, 0.0)
        return reused

    def _change(self, now: Tensor, before: Tensor) -> Tensor:
        """Return the relative L1 change: one number, or (N,) to decide per sample."""
        if self._method.decide == "batch":
            return relative_change(now, before)
        moved = (now - before).float().abs().flatten(1).mean(1)
        size = before.float().abs().flatten(1).mean(1)
        if self.guided:
            moved, size = (part.reshape(2, -1).sum(0).repeat(2) for part in (moved, size))
        return moved / size


def first_input(net: StagedBackbone, opened: Tokens) -> Tensor:
    """Return the input of the first attention after norm and modulation, (N, T, D).

    A U-ViT has no modulation, so it is the normed input there. The time is one of its tokens.
    """
    probe = InputProbe()
    net.run(opened, 0, probe)
    assert probe.seen is not None
    return probe.seen


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """Return ``|now - before|_1 / |before|_1`` over the whole batch, a scalar."""
    return (now - before).float().abs().mean() / before.float().abs().mean()


def polynomial(coefficients: Sequence[float], value: Tensor) -> Tensor:
    """Evaluate a polynomial, highest power first; below 0 it means no change."""
    result = torch.zeros_like(value)
    for coefficient in coefficients:
        result = result * value + coefficient
    return result.clamp(min=0.0)
