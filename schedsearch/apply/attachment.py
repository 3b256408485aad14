"""The state of an enabled model: hooks that arm its block lists, and counters."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, cast

import torch
from torch import nn

from schedsearch.apply.caches import refuse_any_cache, refuse_caches
from schedsearch.apply.clock import CallTime
from schedsearch.apply.view import (
    IDLE,
    RAN,
    RAN_TWICE,
    ScheduledBlocks,
    arm_views,
    close_view,
    open_view,
)
from schedsearch.exceptions import ScheduleError
from schedsearch.families.family import Family
from schedsearch.schedules.exit_schedule import ExitSchedule

ATTRIBUTE = "_schedsearch_schedule"
"""Attribute of an enabled model that holds its :class:`Attachment`."""


MOST_CALLS = 10_000
"""Calls of a run whose times are kept."""


class Attachment:
    """Runs a model by an exit schedule until it is removed.

    It lies on the model as a plain attribute, and its hooks are bound methods. So a deep copy of
    the model gets another attachment, with another count of calls.

    Args:
        model: The model.
        family: Its family.
        schedule: Blocks to run per interval of the clock.
        time: Reads the time of a call.
    """

    def __init__(
        self, model: nn.Module, family: Family, schedule: ExitSchedule, time: CallTime
    ) -> None:
        self.model = model
        self.family = family
        self.schedule = schedule
        self.time = time
        self.lists = block_lists(model, family)
        self.num_blocks = num_exit_blocks(model, family)
        self.calls: Counter[int] = Counter()
        """Calls by the number of blocks that they ran."""
        self.last_run: deque[tuple[float, int]] = deque(maxlen=MOST_CALLS)
        """Clock time and blocks of every call since the time last rose."""
        self.lowest_clock, self.highest_clock = float("inf"), float("-inf")
        self._armed: tuple[float, int] | None = None
        """Clock time and depth of the call that runs."""
        self._handles: list[Any] = []

    # ---- attaching ------------------------------------------------------------------------

    def attach(self) -> None:
        """Change the model; if that fails, it is left as it was."""
        family, model = self.family, self.model
        first = model.get_submodule(family.arm_at)
        last = model.get_submodule(family.disarm_at)
        try:
            for blocks in self.lists:
                open_view(blocks, family.past_exit)
            arm = first.register_forward_pre_hook(self.arm, with_kwargs=True)
            self._handles.append(arm)
            self._handles.append(last.register_forward_hook(self.disarm, always_call=True))
            # NOTE: What runs between the two may fail, and then nothing runs the blocks.
            for module in _between(model, last) if first is not last else ():
                handle = module.register_forward_hook(self.disarm_failed, always_call=True)
                self._handles.append(handle)
            setattr(model, ATTRIBUTE, self)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Undo :meth:`attach`."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for blocks in self.lists:
            close_view(blocks)
        self.model.__dict__.pop(ATTRIBUTE, None)

    # ---- in a call ------------------------------------------------------------------------

    # NOTE: Not traced by torch.compile, since reading the time would break the graph.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def arm(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Set how many blocks the call runs; a forward pre-hook.

        Raises:
            ScheduleError: If a cache is active, the time is missing or outside the clock, or
                its samples need different depths.
        """
        clock, depth = self._depth(self.time.read(args, kwargs))
        # NOTE: Looking at every module takes long, so only the first call of a run does it.
        begins = not self.last_run or clock >= self.last_run[-1][0]
        (refuse_any_cache if begins else refuse_caches)(self.model, self.lists)
        argument = self.family.exit_argument
        if argument is not None:
            if argument in kwargs:
                raise ScheduleError(
                    f"The call sets {argument}, but a schedule is enabled, which sets it too. "
                    "Leave it out, or call schedsearch.disable first."
                )
            kwargs = {**kwargs, argument: depth}
        arm_views(cast(list[ScheduledBlocks], self.lists), depth)
        self._armed = clock, depth
        return None if argument is None else (args, kwargs)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def disarm(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Set the lists idle and count the call; a forward hook.

        Raises:
            ScheduleError: If a list was not iterated exactly once.
        """
        found = [blocks.run for blocks in self.lists]
        armed = self._set_idle()
        # NOTE: Without an output the call itself failed, which is the error to see.
        if output is None:
            return
        if any(run != RAN for run in found):
            times = "twice" if RAN_TWICE in found else "never"
            raise ScheduleError(
                f"The schedule had no effect: this {self.family.class_name} iterated a list of "
                f"blocks {times} in a call, not once. Disable it, and report the versions in use."
            )
        if armed is None:
            return
        clock, depth = armed
        self.calls[depth] += 1
        if self.last_run and clock > self.last_run[-1][0]:
            self.last_run.clear()
        self.last_run.append((clock, depth))
        self.lowest_clock = min(clock, self.lowest_clock)
        self.highest_clock = max(clock, self.highest_clock)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def disarm_failed(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook: set the lists idle if a module failed and has no output."""
        if output is None:
            self._set_idle()

    def _set_idle(self) -> tuple[float, int] | None:
        for blocks in self.lists:
            blocks.run = IDLE  # type: ignore[assignment]
        armed, self._armed = self._armed, None
        return armed

    def _depth(self, clocks: list[float]) -> tuple[float, int]:
        try:
            depths = [self.schedule.depth_at(clock) for clock in clocks]
        except ValueError as error:
            hint = " See enable(time=...)." if self.family.may_choose_time else ""
            raise ScheduleError(
                f"The time of a call does not fit the clock of a {self.family.class_name}: "
                f"{error}{hint}"
            ) from error
        if len(set(depths)) > 1:
            other = next(i for i, depth in enumerate(depths) if depth != depths[0])
            raise ScheduleError(
                f"The samples of a call have the clock times {clocks[0]:g} and {clocks[other]:g}, "
                f"which run {depths[0]} and {depths[other]} blocks. Call the model once for each."
            )
        return clocks[0], depths[0]


def _between(model: nn.Module, last: nn.Module) -> list[nn.Module]:
    """The model and its parts, without the blocks and the last part, which has a hook."""
    parts = [part for part in model.children() if not isinstance(part, nn.ModuleList)]
    return [module for module in (model, *parts) if module is not last]


def attachment_of(model: nn.Module) -> Attachment | None:
    """Return the attachment of an enabled model, or None."""
    found = model.__dict__.get(ATTRIBUTE)
    return found if isinstance(found, Attachment) else None


def block_lists(model: nn.Module, family: Family) -> list[nn.ModuleList]:
    """Return the lists that a family's schedule counts through; none where it skips itself."""
    lists = [getattr(model, name, None) for name in family.lists]
    for name, blocks in zip(family.lists, lists, strict=True):
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            raise ScheduleError(
                f"A {family.class_name} keeps its blocks in an nn.ModuleList {name}, but this one "
                f"has {type(blocks).__name__} there. Undo what replaced it."
            )
    return lists  # type: ignore[return-value]


def num_exit_blocks(model: nn.Module, family: Family) -> int:
    """Return the number of blocks that a schedule may skip."""
    if family.exit_argument is not None:
        return int(model.num_exit_blocks)  # type: ignore[arg-type]
    return sum(len(blocks) for blocks in block_lists(model, family))
