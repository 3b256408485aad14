"""Plans which samples of a batch run each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Exits:
    """The order of a batch by exit depth, deepest first.

    In this order the samples that run a block come first, so selecting them is a slice.

    Args:
        alive: Number of samples that run each skippable block, up to the deepest exit.
        order: Index in the batch of each sorted sample, (N,); None keeps the order.
    """

    alive: tuple[int, ...]
    order: Tensor | None = None

    @classmethod
    def of(
        cls, exit_depth: int | Tensor, num_samples: int, allowed: range, device: torch.device
    ) -> Exits:
        """Plan a batch.

        Args:
            exit_depth: Blocks to run: an int for all, or (N,) integers. A tensor on the CPU
                avoids waiting for the device.
            num_samples: Samples N in the batch.
            allowed: Exit depths of the model.
            device: Device of the batch.

        Raises:
            ValueError: If a depth lies outside ``allowed``, or the tensor does not hold one
                integer per sample.
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
        depth_list: list[int] = depths.tolist()  # NOTE: the only wait for the device
        _check_depths(depth_list[:1] + depth_list[-1:], allowed)
        alive, num_alive = [], num_samples
        for block in range(depth_list[0] if depth_list else 0):
            while depth_list[num_alive - 1] <= block:
                num_alive -= 1
            alive.append(num_alive)
        return cls(tuple(alive), order.to(device))

    def num_alive(self, block: int) -> int:
        """Number of samples that run a block; blocks count from 0."""
        return self.alive[block] if block < len(self.alive) else 0

    def sort(self, batch: Tensor) -> Tensor:
        """Sort a batch, (N, ...), by exit depth."""
        return batch if self.order is None else batch[self.order]

    def restore(self, batch: Tensor) -> Tensor:
        """Undo :meth:`sort` on a batch, (N, ...)."""
        return batch if self.order is None else batch[torch.argsort(self.order)]


def _check_depths(depths: Sequence[int], allowed: range) -> None:
    for depth in depths:
        if depth not in allowed:
            raise ValueError(
                f"exit_depth must lie in {allowed[0]}..{allowed[-1]} for this model, got {depth}."
            )
