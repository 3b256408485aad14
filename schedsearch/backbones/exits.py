"""Which samples of a batch still run a block, for one exit depth or one per sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Exits:
    """A batch in the order of its exit depths, deepest first.

    The samples that run a block are then the first ones of the batch: a slice, no copy. With
    one depth for all, the order is the one of the batch.

    Args:
        alive: Samples that run each block that may be skipped, as far as somebody runs it.
        order: Place in the batch of each sorted sample, (N,); None if nothing moves.
    """

    alive: tuple[int, ...]
    order: Tensor | None = None

    @classmethod
    def of(
        cls, exit_depth: int | Tensor, num_samples: int, allowed: range, device: torch.device
    ) -> Exits:
        """Plan a batch.

        Args:
            exit_depth: Blocks to run: an int for all, or (N,) integers. On the CPU it costs no
                wait for the device.
            num_samples: Samples N in the batch.
            allowed: The depths of the model.
            device: Where the batch is.

        Raises:
            ValueError: If a depth lies outside ``allowed``, or there is not one integer per
                sample.
        """
        if not isinstance(exit_depth, Tensor):
            _check_depths([exit_depth], allowed)
            return cls((num_samples,) * exit_depth)
        kind = exit_depth.dtype
        if exit_depth.shape != (num_samples,) or kind.is_floating_point or kind == torch.bool:
            raise ValueError(
                f"exit_depth needs one integer per sample, shape ({num_samples},), "
                f"but got {kind} of shape {tuple(exit_depth.shape)}."
            )
        depths, order = torch.sort(exit_depth, descending=True, stable=True)
        depth_list: list[int] = depths.tolist()  # the only wait for the device
        _check_depths(depth_list[:1] + depth_list[-1:], allowed)
        alive, num_alive = [], num_samples
        for block in range(depth_list[0] if depth_list else 0):
            while depth_list[num_alive - 1] <= block:
                num_alive -= 1
            alive.append(num_alive)
        return cls(tuple(alive), order.to(device))

    def num_alive(self, block: int) -> int:
        """Samples that run a block, counted from 0."""
        return self.alive[block] if block < len(self.alive) else 0

    def sort(self, batch: Tensor) -> Tensor:
        """Bring a batch, (N, ...), into the order of its depths."""
        return batch if self.order is None else batch[self.order]

    def restore(self, batch: Tensor) -> Tensor:
        """Bring a sorted batch, (N, ...), back into its own order."""
        return batch if self.order is None else batch[torch.argsort(self.order)]


def _check_depths(depths: Sequence[int], allowed: range) -> None:
    for depth in depths:
        if depth not in allowed:
            raise ValueError(
                f"exit_depth must lie in {allowed[0]}..{allowed[-1]} for this model, got {depth}."
            )
