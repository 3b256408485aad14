"""The public functions: run a pipeline or a model by an exit schedule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from schedsearch.apply.attachment import Attachment, attachment_of, block_lists
from schedsearch.apply.caches import refuse_any_cache
from schedsearch.apply.clock import CallTime, clock_of, process_of
from schedsearch.apply.schedules import schedule_for
from schedsearch.apply.summary import Summary, summarise
from schedsearch.exceptions import ConfigError, ScheduleError
from schedsearch.families.family import Clock, TimeName
from schedsearch.families.recognise import recognise
from schedsearch.schedules.exit_schedule import ExitSchedule


def enable(
    obj: object,
    schedule: ExitSchedule | str | Path,
    *,
    time: TimeName | None = None,
    strict: bool = True,
) -> None:
    """Run a model by an exit schedule until :func:`disable`.

    The model itself is enabled, so pipelines that share it share the schedule. When this raises,
    nothing has changed. Enable last: load, LoRA, offload, compile blocks, enable.

    Args:
        obj: A diffusers pipeline or transformer (DiT, PixArt, SD3, FLUX, Sana), an official DiT,
            SiT or U-ViT, or a backbone of this package. May be compiled.
        schedule: An exit schedule, the name of a preset (scaled to the model), or a file.
        time: What the model is fed, where its class does not say: ``sit`` (1 - sigma),
            ``sigma``, ``sigma1000`` or ``timestep``.
        strict: Whether a file's weights have to be the model's.

    Raises:
        ConfigError: If the model is of no known family, it is not clear what it is fed, or there
            is no such schedule.
        ScheduleError: If the schedule does not fit the model, one is enabled already, or a
            cache is active.
    """
    model, pipeline = _model_of(obj)
    if attachment_of(model) is not None:
        raise ScheduleError(
            f"A schedule is enabled on this {type(model).__name__} already; pipelines that share "
            "a model share its schedule. Call schedsearch.disable first."
        )
    family = recognise(model)
    clock = clock_of(family, model, time)
    refuse_any_cache(model, block_lists(model, family))
    process = process_of(clock, pipeline)
    found = schedule_for(schedule, model, family, process, strict=strict)
    if family.clock_scale_in_config is not None:
        clock = _unscaled(clock, model, family.clock_scale_in_config)
    Attachment(model, family, found, CallTime(family, clock, pipeline)).attach()


def disable(obj: object) -> None:
    """Let a model run every block again.

    Raises:
        ScheduleError: If no schedule is enabled.
    """
    _attached(_model_of(obj)[0]).detach()


@contextmanager
def enabled(
    obj: object,
    schedule: ExitSchedule | str | Path,
    *,
    time: TimeName | None = None,
    strict: bool = True,
) -> Iterator[None]:
    """Run a model by an exit schedule inside a ``with`` block; see :func:`enable`."""
    enable(obj, schedule, time=time, strict=strict)
    # NOTE: The model, not the pipeline, whose transformer may be another one at the end.
    model, _ = _model_of(obj)
    try:
        yield
    finally:
        if (attachment := attachment_of(model)) is not None:
            attachment.detach()


def summary(obj: object) -> Summary:
    """Say what an enabled model ran so far; ``print`` shows a table.

    Raises:
        ScheduleError: If no schedule is enabled.
    """
    model, pipeline = _model_of(obj)
    outer = obj if pipeline is None else getattr(pipeline, "transformer", None)
    is_compiled = hasattr(outer, "_orig_mod") or model._compiled_call_impl is not None
    return summarise(_attached(model), is_compiled=is_compiled)


def _attached(model: nn.Module) -> Attachment:
    attachment = attachment_of(model)
    if attachment is None:
        raise ScheduleError(
            f"No schedule is enabled on this {type(model).__name__}; schedsearch.enable does that."
        )
    return attachment


def _model_of(obj: object) -> tuple[nn.Module, object | None]:
    """Return the model under a pipeline, ``torch.compile`` or peft, and the pipeline."""
    model = obj if isinstance(obj, nn.Module) else getattr(obj, "transformer", None)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"A schedule is applied to a model or to a pipeline with a transformer, got "
            f"{type(obj).__name__}."
        )
    pipeline = None if model is obj else obj
    # NOTE: torch.compile and peft wrap the model and call it; hooks work on the wrapped one.
    inner: Any = getattr(model, "_orig_mod", model)
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return inner, pipeline


def _unscaled(clock: Clock, model: nn.Module, key: str) -> Clock:
    """Undo the factor by which a pipeline multiplies the time."""
    factor = float(getattr(model.config, key, 1.0))
    return replace(clock, scale=clock.scale / factor)
