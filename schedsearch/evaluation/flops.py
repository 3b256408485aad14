"""FLOPs of one network call per exit depth, what a schedule saves of them, and parameters.

Counted by torch on the meta device, so that no size is too large and no kernel is missed (fused
attention becomes plain matrix products there). One multiply-accumulate is two FLOPs. Counted are
matrix products and convolutions; norms, activations, softmax, biases and embedding look-ups are
not, as in the papers. "GFLOPs" of a paper are often multiply-accumulates: 118.6 of DiT-XL/2
(DiT, Table 4) are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from schedsearch.protocols import Backbone
from schedsearch.schedules.exit_schedule import ExitSchedule

_ATTENTION = ("bmm", "baddbmm", "scaled_dot_product")
"""Operators that multiply activations with activations; a linear layer is ``mm`` or ``addmm``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFlops:
    """FLOPs of one network call for one image."""

    weights: int
    """Products with weights: linear layers and convolutions."""
    attention: int
    """Products of activations: queries with keys, attention with values."""

    @property
    def total(self) -> int:
        """All FLOPs."""
        return self.weights + self.attention

    @property
    def macs(self) -> int:
        """Multiply-accumulates: half the FLOPs."""
        return self.total // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopTable:
    """Cost of one network call by exit depth."""

    calls: Mapping[int, CallFlops]
    full_depth: int
    """Exit depth that runs every block."""

    def mean_total(self, schedule: ExitSchedule, times: Iterable[float] | None = None) -> float:
        """FLOPs of a schedule's average network call for one image.

        Args:
            schedule: Blocks to run per interval.
            times: Where a solver calls the network, on the schedules' clock; None weighs all
                intervals alike, as many uniform steps do.

        Raises:
            KeyError: If the schedule visits a depth that was not counted.
            ValueError: If ``times`` is empty.
        """
        depths = schedule.depths if times is None else schedule.visited(times)
        if not depths:
            raise ValueError("A mean over network calls needs at least one time, but got none.")
        return sum(self.calls[depth].total for depth in depths) / len(depths)

    def saving(self, schedule: ExitSchedule, times: Iterable[float] | None = None) -> float:
        """Fraction of FLOPs that a schedule saves against full depth.

        Guidance runs every call on twice the batch and changes nothing here.
        """
        return 1.0 - self.mean_total(schedule, times) / self.calls[self.full_depth].total


def count_flops(net: nn.Module | Backbone, depths: Sequence[int] | None = None) -> FlopTable:
    """Count a backbone's FLOPs for one image at every exit.

    Args:
        net: The backbone, on any device, the meta device included; changed in nothing.
        depths: Exit depths to count besides full depth; None counts 1..num_exit_blocks.

    Raises:
        ValueError: If the forward pass needs the values of tensors, which a count has not.
    """
    full_depth = cast(Backbone, net).num_exit_blocks
    wanted = range(1, full_depth + 1) if depths is None else depths
    return FlopTable(
        calls={depth: count_call(net, depth) for depth in sorted({*wanted, full_depth})},
        full_depth=full_depth,
    )


def count_call(net: nn.Module | Backbone, exit_depth: int) -> CallFlops:
    """FLOPs of one call for one image at one exit depth.

    Args:
        net: The backbone, on any device; changed in nothing.
        exit_depth: Blocks to run.

    Raises:
        ValueError: If the forward pass needs the values of tensors, which a count has not.
    """
    backbone, module = cast(Backbone, net), cast(nn.Module, net)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    x = torch.empty(1, *backbone.in_shape, dtype=dtype, device="meta")
    t = torch.empty(1, device="meta")
    y = None
    if backbone.num_classes is not None:
        y = torch.empty(1, dtype=torch.long, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            functional_call(module, shapes, (x, t, y), {"exit_depth": exit_depth})
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"The FLOPs of {type(module).__name__} cannot be counted: its forward pass does not "
            f"run on the meta device ({error}). Keep values of tensors, and tensors that are "
            "neither parameters nor buffers, out of it."
        ) from error
    by_operator: Mapping[Any, int] = counter.get_flop_counts()["Global"]
    attention = sum(
        flops
        for operator, flops in by_operator.items()
        if any(name in str(operator) for name in _ATTENTION)
    )
    total = sum(by_operator.values())
    return CallFlops(weights=total - attention, attention=attention)


def count_parameters(net: nn.Module | Backbone) -> int:
    """Number of parameters; buffers, such as fixed position embeddings, are none."""
    return sum(parameter.numel() for parameter in cast(nn.Module, net).parameters())
