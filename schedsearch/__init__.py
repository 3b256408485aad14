"""Automatic search of compute schedules for diffusion transformers.

Importing this package loads nothing heavy: every public name is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from schedsearch.version import __version__

if TYPE_CHECKING:
    from schedsearch.apply.enable import disable, enable, enabled, summary
    from schedsearch.methods.loading import load_method
    from schedsearch.runs.pipeline_export import export_pipeline
    from schedsearch.sampling_api import load_backbone, sample
    from schedsearch.schedules.exit_schedule import ExitSchedule
    from schedsearch.schedules.hand_made import presets
    from schedsearch.schedules.schedule_file import load_schedule
    from schedsearch.schedules.space import SearchSpace

__all__ = [
    "ExitSchedule",
    "SearchSpace",
    "__version__",
    "disable",
    "enable",
    "enabled",
    "export_pipeline",
    "load_backbone",
    "load_method",
    "load_schedule",
    "presets",
    "sample",
    "summary",
]

_HOMES = {
    "ExitSchedule": "schedules.exit_schedule",
    "SearchSpace": "schedules.space",
    "disable": "apply.enable",
    "enable": "apply.enable",
    "enabled": "apply.enable",
    "export_pipeline": "runs.pipeline_export",
    "load_backbone": "sampling_api",
    "load_method": "methods.loading",
    "load_schedule": "schedules.schedule_file",
    "presets": "schedules.hand_made",
    "sample": "sampling_api",
    "summary": "apply.enable",
}
"""Module of each public name. No module may carry a public name: importing it would replace
the name."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
