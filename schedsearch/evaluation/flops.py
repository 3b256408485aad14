"""Counts FLOPs per exit depth, saved by a schedule and of whole runs, and parameters.

Calls are counted on the meta device, so any model size works and fused attention is included.
One multiply-accumulate is two FLOPs. Only matrix products and convolutions count, as in the
papers. Papers often call multiply-accumulates FLOPs, for example the 118.6 GFLOPs of DiT-XL/2
(DiT, Table 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from schedsearch.protocols import Backbone
from schedsearch.schedules.exit_schedule import ExitSchedule

_ATTENTION = ("bmm", "baddbmm", "scaled_dot_product")
"""Operators between activations; linear layers use ``mm`` and ``addmm`` instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFlops:
    """FLOPs of one network call for one image."""

    weights: int
    """FLOPs of linear layers and convolutions."""
    attention: int
    """FLOPs of queries times keys and of attention times values."""

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
    """FLOPs of one network call by exit depth."""

    calls: Mapping[int, CallFlops]
    full_depth: int
    """Exit depth that runs every block."""

    def mean_total(self, schedule: ExitSchedule, times: Iterable[float] | None = None) -> float:
        """Return the mean FLOPs of a schedule's network calls for one image.

        Args:
            schedule: Blocks to run per interval.
            times: Clock times of the solver's network calls. None weights all intervals
                equally, like many uniform steps.

        Raises:
            KeyError: If the schedule visits a depth without a count.
            ValueError: If ``times`` is empty.
        """
        depths = schedule.depths if times is None else schedule.visited(times)
        if not depths:
            raise ValueError("A mean over network calls needs at least one time, but got none.")
        return sum(self.calls[depth].total for depth in depths) / len(depths)

    def saving(self, schedule: ExitSchedule, times: Iterable[float] | None = None) -> float:
        """Return the fraction of FLOPs saved against full depth.

        Guidance doubles the batch of every call, so it does not change the fraction.
        """
        return 1.0 - self.mean_total(schedule, times) / self.calls[self.full_depth].total


def count_flops(net: nn.Module | Backbone, depths: Sequence[int] | None = None) -> FlopTable:
    """Count a backbone's FLOPs for one image at every exit.

    Args:
        net: The backbone, on any device including meta; not changed.
        depths: Exit depths to count in addition to full depth; None counts all from 1.

    Raises:
        ValueError: If the forward pass needs values of tensors, which meta tensors lack.
    """
    full_depth = cast(Backbone, net).num_exit_blocks
    wanted = range(1, full_depth + 1) if depths is None else depths
    return FlopTable(
        calls={depth: count_call(net, depth) for depth in sorted({*wanted, full_depth})},
        full_depth=full_depth,
    )


def count_call(net: nn.Module | Backbone, exit_depth: int) -> CallFlops:
    """Count the FLOPs of one call for one image at one exit depth.

    Args:
        net: The backbone, on any device; not changed.
        exit_depth: Blocks to run.

    Raises:
        ValueError: If the forward pass needs values of tensors, which meta tensors lack.
    """
    # Build meta inputs.
    backbone, module = cast(Backbone, net), cast(nn.Module, net)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    x = torch.empty(1, *backbone.in_shape, dtype=dtype, device="meta")
    t = torch.empty(1, device="meta")
    y = None
    if backbone.num_classes is not None:
        y = torch.empty(1, dtype=torch.long, device="meta")
    # Run one call.
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
    # Split by operator.
    by_operator: Mapping[Any, int] = counter.get_flop_counts()["Global"]
    attention = sum(
        flops
        for operator, flops in by_operator.items()
        if any(name in str(operator) for name in _ATTENTION)
    )
    total = sum(by_operator.values())
    return CallFlops(weights=total - attention, attention=attention)


@torch.inference_mode(False)
@torch.no_grad()
def count_run(run: Callable[[], object], num_images: int) -> int:
    """Count the multiply-accumulates of a sampling run, per image.

    Output layers, certainty modules and the matching of tokens are included; what a cache skips
    is not. Only matrix products and convolutions count, as in the papers.

    Args:
        run: Samples ``num_images`` images.
        num_images: Images of the run.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() // (2 * num_images)


def count_parameters(net: nn.Module | Backbone) -> int:
    """Count the parameters, without buffers such as fixed position embeddings."""
    return sum(parameter.numel() for parameter in cast(nn.Module, net).parameters())
