"""The rows of a comparison: every entry of ``rivals`` at every operating point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from schedsearch.settings.rivals import (
    BlockCacheRival,
    PlanSettings,
    Point,
    PrunedRival,
    RivalSettings,
    RouterRival,
    ScheduleRival,
    SimilarityRival,
    SmallRival,
    StepsRival,
    StitchRival,
    UncertaintyRival,
)

FULL = "full"
"""The row of the pretrained network, and the name of its schedule."""

PRESETS = "presets"
"""Entry of the space's warm starts."""

TWIN = "-twin"
"""Ends the name of the schedule with a dynamic method's mean depths."""

STEP_SHARES = (0.75, 0.6, 0.5)
"""Solver steps of the rows that every comparison has, as shares of the space's."""

FLAT_SHARE = 0.7
"""Depth of the flat exit that every comparison has, as a share of full depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the comparison."""

    name: str
    """Unique, also a folder name: ``deediff-0.75``."""
    entry: str
    """Its key in ``rivals``; ``full`` or ``presets`` for rows that are always there."""
    point: Point | None = None
    net: str | None = None
    """The trained network that it uses; None for the pretrained one."""
    dynamic: bool = False
    """Whether the network's depth depends on the images."""
    has_twin: bool = False
    """Whether a schedule of its mean depths is measured too; none exits in an encoder."""


def completed_rivals(
    rivals: Mapping[str, RivalSettings], *, num_steps: int, num_blocks: int
) -> dict[str, RivalSettings]:
    """The entries of a space, with those that every comparison needs.

    Args:
        rivals: The section.
        num_steps: Steps of the space's solver.
        num_blocks: Exit blocks of the network.
    """
    found = dict(rivals)
    if not any(isinstance(entry, StepsRival) for entry in found.values()):
        steps = sorted({max(1, round(share * num_steps)) for share in STEP_SHARES}, reverse=True)
        name = "steps" if "steps" not in found else "plain_steps"
        found[name] = StepsRival(kind="steps", num_steps=tuple(steps))
    if not any(_has_flat(entry) for entry in found.values()):
        depth = max(1, round(FLAT_SHARE * num_blocks))
        name = "flat" if "flat" not in found else "plain_flat"
        found[name] = ScheduleRival(kind="schedule", schedules=(f"flat-{depth}",))
    return found


def rows_of(
    rivals: Mapping[str, RivalSettings], presets: Mapping[str, Sequence[int]]
) -> list[Row]:
    """All rows: full depth, the presets, then every entry at every point.

    Args:
        rivals: The entries, see :func:`completed_rivals`.
        presets: Depths of the warm starts by label, full depth left out.
    """
    rows = [Row(name=FULL, entry=FULL, point=FULL)]
    for label, depths in presets.items():
        point = " ".join(map(str, depths))
        rows.append(Row(name=label, entry=PRESETS, point=point, net=label))
    for name, entry in rivals.items():
        rows += _rows(name, entry)
    return rows


def _rows(key: str, entry: RivalSettings) -> Iterator[Row]:
    for index, point in enumerate(entry.points):
        text = str(index) if " " in str(point) else f"{point}"
        name = text if text.startswith(key) else f"{key}-{text}"
        dynamic, has_twin, net = False, False, None
        if isinstance(entry, UncertaintyRival | SimilarityRival):
            dynamic, has_twin, net = True, entry.exits == "decoder", key
        elif isinstance(entry, PrunedRival | SmallRival):
            net = name
        elif isinstance(entry, ScheduleRival):
            net = entry.weights or name
        elif isinstance(entry, StitchRival):
            net = entry.small
        yield Row(name=name, entry=key, point=point, net=net, dynamic=dynamic, has_twin=has_twin)


def entry_of(row: Row, rivals: Mapping[str, RivalSettings]) -> RivalSettings:
    """The settings behind a row; full depth and presets are schedules."""
    if row.entry in (FULL, PRESETS):
        return ScheduleRival(kind="schedule", schedules=(str(row.point),))
    return rivals[row.entry]


def needs_plan(entry: RivalSettings) -> bool:
    """Whether a method is bound to the number of solver steps."""
    planned = isinstance(entry, BlockCacheRival) and bool(entry.thresholds)
    return planned or isinstance(entry, RouterRival)


def calibrates(entry: RivalSettings) -> bool:
    """Whether rows of an entry are calibrated on images of their own."""
    seeks = bool(getattr(entry, "targets", ())) and not isinstance(entry, PlanSettings)
    return seeks or needs_plan(entry)


def decides_by_batch(entry: RivalSettings) -> bool:
    """Whether the images of a batch decide together, so that its size changes what runs."""
    return getattr(entry, "decide", "sample") == "batch" and not getattr(entry, "every", ())


def _has_flat(entry: RivalSettings) -> bool:
    return isinstance(entry, ScheduleRival) and any(
        isinstance(schedule, str) and schedule.startswith("flat-") for schedule in entry.schedules
    )
