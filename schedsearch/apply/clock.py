"""Reads the time of a call, on the clock [0, 1000] of exit schedules."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError, ScheduleError
from schedsearch.families.family import TIMES, Clock, Family, ProcessKind
from schedsearch.families.recognise import choose_clock
from schedsearch.schedules.exit_schedule import ExitSchedule

SETTINGS = "_schedsearch_diffusion"
"""Attribute of a network that ``load_backbone`` made: the process it was trained with."""

WHOLE = 1e-4
"""A converted time this near to a whole number is that number.

Float32 rounds 0.9 * 1000."""

COUNTS = {"ddpm": "timesteps of DDPM", "flow": "flow sigmas", None: "an unknown time"}
"""Kinds of clocks, in words."""

_EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float16, torch.bfloat16, torch.float32)}


class CallTime:
    """The clock times of calls of one model.

    Args:
        family: The model's family.
        clock: How to convert what the model is fed.
        pipeline: Pipeline whose scheduler may know the time better than the call says it.
    """

    def __init__(self, family: Family, clock: Clock, pipeline: object | None = None) -> None:
        self.argument, self.position = family.time_argument, family.time_position
        self.clock = clock
        # NOTE: A weak reference, because a pipeline owns its model.
        self._pipeline = None if pipeline is None else weakref.ref(pipeline)
        self._timesteps: tuple[Tensor, list[float]] | None = None

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[float]:
        """Return the different clock times of a call, at least one.

        Raises:
            ScheduleError: If the call carries no time.
        """
        value = kwargs.get(self.argument)
        if value is None and len(args) > self.position:
            value = args[self.position]
        if not isinstance(value, Tensor):
            if isinstance(value, int | float):
                return [self._converted(float(value))]
            raise ScheduleError(
                f"A schedule needs the time of every call in the argument {self.argument}, but "
                f"got {type(value).__name__}. Pass it, or disable the schedule."
            )
        # NOTE: All pipelines pass an expanded scalar; one element says it all.
        if value.dim() == 0 or (value.dim() == 1 and len(value) and not value.stride(0)):
            return [self._exact((value[0] if value.dim() else value).item(), value.dtype)]
        values = sorted(set(value.flatten().tolist()))
        if not values:
            raise ScheduleError(
                f"A schedule needs the time of every call, but {self.argument} is empty."
            )
        return [self._exact(one, value.dtype) for one in values]

    def _converted(self, value: float) -> float:
        clock = self.clock
        if clock.scale == 1.0 and clock.offset == 0.0:
            return value
        time = clock.scale * value + clock.offset
        # NOTE: The schedule refuses what is not finite.
        whole = float(round(time)) if abs(time) < 1e6 else time
        return whole if abs(time - whole) < WHOLE else time

    def _exact(self, value: float, dtype: torch.dtype) -> float:
        """Convert a tensor's value, undoing its rounding where the scheduler knows the time."""
        time = self._converted(value)
        rounded = dtype in (torch.bfloat16, torch.float16)
        if self._pipeline is None or not (rounded or (time != value and dtype in _EPS)):
            return time
        step = self._scheduler_time()
        # NOTE: FLUX rounds twice, before and after it divides by 1000.
        if step is not None and abs(step - time) <= 1.01 * _EPS[dtype] * max(step, time):
            return step
        return time

    def _scheduler_time(self) -> float | None:
        """The timestep that the pipeline's scheduler is at, if it keeps count."""
        scheduler = getattr(self._pipeline and self._pipeline(), "scheduler", None)
        timesteps = getattr(scheduler, "timesteps", None)
        if not isinstance(timesteps, Tensor):
            return None
        # NOTE: Read once per run, since a GPU's timesteps cost a wait each.
        if self._timesteps is None or self._timesteps[0] is not timesteps:
            self._timesteps = timesteps, timesteps.tolist()
        index = getattr(scheduler, "step_index", None)
        if index is None:
            index = getattr(scheduler, "begin_index", None) or 0
        known = self._timesteps[1]
        return float(known[index]) if 0 <= index < len(known) else None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pipeline out of copies and pickles; the time of the call remains."""
        return {**self.__dict__, "_pipeline": None, "_timesteps": None}


def clock_of(family: Family, model: object, time: str | None) -> Clock:
    """Return the clock of a model.

    A network that ``load_backbone`` made carries its process with it, which says what it is fed.

    Raises:
        ConfigError: As :func:`choose_clock`, or if ``time`` contradicts the network's process.
    """
    settings = getattr(model, SETTINGS, None) if family.exit_argument else None
    if settings is None:
        return choose_clock(family, model, time)
    if getattr(settings, "process", None) == "flow":
        own = TIMES[settings.time]
    elif settings.betas == "vp":
        own = Clock(1000.0 / 999.0, process="ddpm")
    else:
        own = TIMES["timestep"]
    if time is not None and choose_clock(family, model, time) != own:
        raise ConfigError(
            f"time={time!r} contradicts the section diffusion that this network was loaded with. "
            "Leave it out."
        )
    return own


def process_of(clock: Clock, pipeline: object | None) -> ProcessKind | None:
    """Return what a model's clock counts, by its pipeline's scheduler if any.

    Raises:
        ScheduleError: If the scheduler counts angles (Sana Sprint).
    """
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is None:
        return clock.process
    if type(scheduler).__name__ == "SCMScheduler":
        raise ScheduleError(
            f"A {type(pipeline).__name__} with SCMScheduler feeds its model an angle instead of a "
            "noise level, so no schedule fits. Use a pipeline with another scheduler."
        )
    config = getattr(scheduler, "config", {})
    is_flow = (
        type(scheduler).__name__.startswith("FlowMatch")
        or config.get("use_flow_sigmas")
        or config.get("prediction_type") == "flow_prediction"
    )
    return "flow" if is_flow else "ddpm"


def check_process(schedule: ExitSchedule, process: ProcessKind | None) -> None:
    """Refuse a schedule that was written for another clock.

    A schedule that does not say its clock counts as usable on any.

    Args:
        schedule: The schedule.
        process: What the model's clock counts; None if unknown.

    Raises:
        ScheduleError: If they differ.
    """
    written_for = getattr(schedule, "clock", None)
    if None not in (written_for, process) and written_for != process:
        raise ScheduleError(
            f"The schedule is written for the clock {written_for}, but the model is fed "
            f"{COUNTS[process]}. Use a schedule for that clock, or move this one "
            "(ExitSchedule.moved)."
        )
