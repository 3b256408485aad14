"""A view on a model's block list: iterating it yields only the blocks to run.

The list stays the model's own object with the same modules and keys; only its class changes. So
deep copies, pickles, offloading and ``torch.compile`` see an ordinary ``nn.ModuleList``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

PastExit = Literal["nothing", "skip_linear"]

IDLE = -1
"""Outside of a scheduled call: every block."""

RAN = -2
"""Iterated once in this call; a further iteration yields every block."""

RAN_TWICE = -3
"""Iterated more than once in a call, which no schedule can follow."""


class ScheduledBlocks(nn.ModuleList):
    """Mixin of the views; ``len()`` and indices are those of the whole list."""

    plain_class: ClassVar[type[nn.ModuleList]] = nn.ModuleList
    # NOTE: Class defaults, since slicing builds a list of this class without our attributes.
    run: int = IDLE
    """Blocks that the next iteration yields, or a state."""
    past_exit: PastExit = "nothing"
    following: tuple[ScheduledBlocks, int] | None = None
    """The list that runs after this one, and how many of its blocks."""

    def __iter__(self) -> Iterator[nn.Module]:
        run = self.run
        if run < 0:
            # NOTE: Only constants are written: torch.compile would retrace for a counter.
            if run == RAN:
                self.run = RAN_TWICE
            return super().__iter__()
        # NOTE: Idle before the first block, so that an error in a block leaves it idle.
        self.run = RAN
        blocks: list[Any] = list(self._modules.values())
        if self.past_exit == "skip_linear":
            return iter([*blocks[:run], *map(SkipOnly, blocks[run:])])
        if self.following is not None:
            return self._then_arm(blocks[:run], *self.following)
        return iter(blocks[:run])

    def _then_arm(
        self, blocks: list[nn.Module], following: ScheduledBlocks, run: int
    ) -> Iterator[nn.Module]:
        # NOTE: Armed last, since no hook runs after a KeyboardInterrupt in one of these blocks.
        yield from blocks
        following.run = run

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by the class under the view; the view's may have no name."""
        return _empty_view, (self.plain_class,), self.__getstate__()  # type: ignore[no-untyped-call]


class SkipOnly:
    """Stands for a U-ViT decoder block past the exit: it merges its long skip."""

    def __init__(self, block: Any) -> None:
        self.block = block

    def __call__(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Merge tokens (N, T, D) with the encoder's (N, T, D)."""
        if self.block.skip_linear is None:
            return x
        merged: Tensor = self.block.skip_linear(torch.cat([x, skip], dim=-1))  # type: ignore[list-item]
        return merged


@cache
def view_class(plain: Any) -> type[ScheduledBlocks]:
    """Return the class of a view on lists of the class ``plain``."""
    if plain is nn.ModuleList:
        return ScheduledBlocks
    return type(f"Scheduled{plain.__name__}", (ScheduledBlocks, plain), {"plain_class": plain})


def open_view(blocks: nn.ModuleList, past_exit: PastExit) -> None:
    """Turn a list into an idle view, in place."""
    plain: Any = type(blocks)
    blocks.__class__ = view_class(plain)
    if past_exit != "nothing":
        blocks.past_exit = past_exit  # type: ignore[assignment]


def arm_views(lists: Sequence[ScheduledBlocks], depth: int) -> None:
    """Let the next iteration of each list yield its share of the first ``depth`` blocks."""
    shares = []
    for blocks in lists:
        shares.append(min(depth, len(blocks)))
        depth -= shares[-1]
    for blocks, following, share in zip(lists, lists[1:], shares[1:], strict=False):
        blocks.following = following, share
    if lists:
        lists[0].run = shares[0]


def close_view(blocks: nn.ModuleList) -> None:
    """Undo :func:`open_view`; a list that is no view stays as it is."""
    if isinstance(blocks, ScheduledBlocks):
        blocks.__dict__.pop("run", None)
        blocks.__dict__.pop("past_exit", None)
        blocks.__dict__.pop("following", None)
        blocks.__class__ = blocks.plain_class  # type: ignore[assignment]


def _empty_view(plain: Any) -> ScheduledBlocks:
    view = view_class(plain)
    return view.__new__(view)
