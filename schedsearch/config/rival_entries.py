"""Reads the entries of the section ``rivals``, and what their recipes and schedules mean."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, nearest_or_list, shown
from schedsearch.files.validation import validate
from schedsearch.schedules.argument import resolve_schedule
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.edges import Edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, PRESET_NAMES, is_preset
from schedsearch.settings import RecipeSettings
from schedsearch.settings.plan import PLAN
from schedsearch.settings.rivals import RIVAL_KINDS, RivalSettings
from schedsearch.settings.rows import PRESETS

RIVALS = "rivals"

TAKEN = (FULL, PRESETS, PLAN)
"""Names of rows that are no entries of the section."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def read_rivals(value: Any, findings: Findings) -> dict[str, RivalSettings]:
    """Validate the plain section entry by entry; wrong entries are left out.

    Args:
        value: The section.
        findings: Receives the mistakes.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        findings.add((RIVALS,), f"must be a section of named entries, got {shown(value)}")
        return {}
    found = {}
    for name, entry in value.items():
        at = (RIVALS, name)
        if entry is None:  # -o rivals.NAME=null removes an entry
            continue
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in TAKEN:
            remedy = "use letters, digits, '_' and '-'; full, presets and plan are taken"
            findings.add(at, f"{shown(name)} cannot name an entry", remedy)
        elif not isinstance(entry, Mapping):
            findings.add(at, f"must be a section with the key kind, got {shown(entry)}")
        elif not isinstance(kind := entry.get("kind"), str) or kind not in RIVAL_KINDS:
            known = nearest_or_list(str(kind), list(RIVAL_KINDS))
            reason = "required key is missing" if kind is None else f"unknown kind {shown(kind)}"
            findings.add((*at, "kind"), reason, known)
        else:
            valid, settings = validate(RIVAL_KINDS[kind], dict(entry), at, findings)
            if valid:
                found[name] = settings
    return found


def merged_recipe(recipe: RecipeSettings, entry: RivalSettings) -> Mapping[str, Any]:
    """The space's recipe with the keys of an entry, as plain data.

    Args:
        recipe: Of the space.
        entry: May have ``recipe`` and, for options of the trainer, ``extra``.
    """
    data = {**dataclasses.asdict(recipe), **getattr(entry, "recipe", {})}
    extra = getattr(entry, "extra", {})
    return {**data, "extra": {**data["extra"], **extra}} if extra else data


def schedule_at(
    point: str,
    num_exit_blocks: int,
    num_intervals: int,
    family: str | None,
    edges: Edges | None = None,
    clock: Clock | None = None,
) -> ExitSchedule:
    """The schedule that a point of ``kind: schedule`` means.

    Raises:
        ConfigError: If there is no such schedule in the network.
    """
    if found := re.fullmatch(r"flat-(\d+)", point):
        point = found[1]
    elif not re.fullmatch(r"[\d\s]+", point) and not is_preset(point):
        known = nearest_or_list(point, [FULL, *PRESET_NAMES])
        raise ConfigError(f"unknown schedule {point!r}; {known}; or flat-N, or a list of depths")
    return resolve_schedule(
        point,
        num_exit_blocks=num_exit_blocks,
        num_intervals=num_intervals,
        edges=edges,
        clock=clock,
        family=family,
    )
