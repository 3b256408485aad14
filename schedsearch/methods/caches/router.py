"""Learning-to-Cache (Ma et al. 2024): learns what every second step reuses.

A router has one logit per step, block and part (attention, MLP). In training a part puts out
``w * fresh + (1 - w) * cached`` with ``w = sigmoid(logit)``; the network stays as it is. Steps are
taken in pairs, and the second of a pair may reuse outputs of the first.

Shapes: S steps, L blocks, N batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.methods.around import PARTS, Part, PassThrough, run_around
from schedsearch.methods.caches.block_cache import Plan
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Around

LARGEST_LOGIT = 5.0
"""Logits are kept in [-5, 5], as in the authors' code."""

RUNS_ABOVE = 0.1
"""A part runs where its weight is above this, as in the authors' code."""

Call = tuple[Tensor, Tensor, Tensor | None]
"""Inputs of one network call: x (N, C, H, W), t (N,), y (N,) or None."""


@dataclass(frozen=True, slots=True)
class CallRecording:
    """Full depth; records the inputs of every network call."""

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> CallRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return CallRun(staged(net, "The training of a router"), guided=guided)


class CallRun(MethodRun):
    """One sampling run of :class:`CallRecording`.

    Attributes:
        calls: Inputs of the S network calls, on the CPU.
    """

    def __init__(self, net: StagedBackbone, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.calls: list[Call] = []

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        self.calls.append((x.cpu(), t.cpu(), None if y is None else y.cpu()))
        self.note_blocks(self.net.num_blocks, len(x))
        return run_around(self.net, x, t, y, [None] * self.net.num_blocks)


class Outputs(PassThrough):
    """Runs a block as it is and keeps what attention and MLP put out."""

    def __init__(self) -> None:
        self.kept: dict[Part, Tensor] = {}

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the attention and keep its output."""
        self.kept["attention"] = inner(h)
        return self.kept["attention"]

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the MLP and keep its output."""
        self.kept["mlp"] = inner(h)
        return self.kept["mlp"]


class Mixed(Around):
    """Mixes fresh and cached outputs of one block.

    Args:
        cached: Outputs of the step before, (N, T, D) each.
        weights: Weight of the fresh output per part, (2,).
    """

    def __init__(self, cached: dict[Part, Tensor], weights: Tensor) -> None:
        self._cached = cached
        self._weights = dict(zip(PARTS, weights, strict=True))

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Mix the attention's outputs."""
        return self._mixed("attention", inner(h))

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Mix the MLP's outputs."""
        return self._mixed("mlp", inner(h))

    def _mixed(self, part: Part, fresh: Tensor) -> Tensor:
        return torch.lerp(self._cached[part], fresh, self._weights[part])


def train_router(
    net: Backbone,
    runs: Sequence[CallRun],
    *,
    penalty: float,
    iterations: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> Tensor:
    """Learn the weights of fresh outputs; the network does not change.

    The loss of a pair is the squared error of the mixed prediction, plus ``penalty`` times the
    sum of the weights. One pair and some rows are drawn per iteration.

    Args:
        net: The network.
        runs: Recorded runs of it, of at least two calls.
        penalty: Price of a part that runs.
        iterations: Optimizer steps.
        batch_size: Rows of a step, at most.
        lr: Learning rate of Adam.
        seed: Of the draws.

    Returns:
        Weights of the fresh outputs, (S, L, 2); 1 at the first step of each pair.
    """
    stages = staged(net, "The training of a router")
    num_steps, device = len(runs[0].calls), next(net.parameters()).device  # type: ignore[attr-defined]
    logits = torch.zeros(num_steps, stages.num_blocks, len(PARTS), device=device)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(iterations):
        # Draw a pair.
        run = runs[int(torch.randint(len(runs), (), generator=generator))]
        second = 2 * int(torch.randint(num_steps // 2, (), generator=generator)) + 1
        rows = torch.randperm(len(run.calls[second][0]), generator=generator)[:batch_size]
        before, now = (_taken(run.calls[step], rows, device) for step in (second - 1, second))
        # Run it fresh.
        outputs = [Outputs() for _ in range(stages.num_blocks)]
        with torch.no_grad():
            run_around(stages, *before, outputs)
            target = run_around(stages, *now, [None] * stages.num_blocks)
        # Train the router.
        weights = logits[second].sigmoid()
        pairs = zip(outputs, weights, strict=True)
        mixed = run_around(stages, *now, [Mixed(o.kept, weight) for o, weight in pairs])
        loss = (mixed - target).square().mean() + penalty * weights.sum()
        (logits.grad,) = torch.autograd.grad(loss, logits)
        optimizer.step()
        with torch.no_grad():
            logits.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)
    learned = logits.detach().sigmoid().cpu()
    learned[0::2] = 1.0
    return learned


def plans_of(weights: Tensor) -> tuple[Plan, Plan]:
    """Plans of attention and of MLPs, (S, L) each, from learned weights (S, L, 2)."""
    attention, mlp = (weights > RUNS_ABOVE).unbind(-1)
    return _rows(attention), _rows(mlp)


def _rows(runs: Tensor) -> Plan:
    return tuple(tuple(row) for row in runs.tolist())


def _taken(call: Call, rows: Tensor, device: torch.device) -> Call:
    """Some rows of a call, on a device."""
    # NOTE: Indexing copies, so tensors recorded in inference mode can take part in training.
    x, t, y = call
    return x[rows].to(device), t[rows].to(device), None if y is None else y[rows].to(device)
