"""Hand-made exit schedules of the paper (ASE, Table 5), at any depth, on both clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schedsearch.schedules.edges import Edges
from schedsearch.schedules.exit_schedule import ExitSchedule

FULL = "full"
"""Name of the schedule that always runs every block."""


@dataclass(frozen=True, slots=True)
class HandMade:
    """One hand-made schedule of the paper.

    Args:
        schedule: Depths from data to noise.
        num_exit_blocks: Exit blocks of the paper's model: 28 in DiT-XL/2, the 6 decoder blocks
            in U-ViT-S/4.
        reported_acceleration: Fraction of wall-clock time saved, as reported.
    """

    schedule: ExitSchedule
    num_exit_blocks: int
    reported_acceleration: float


def _row(depths: str, num_exit_blocks: int, acceleration: float) -> HandMade:
    schedule = ExitSchedule(tuple(int(depth) for depth in depths.split()), clock="ddpm")
    return HandMade(schedule, num_exit_blocks, acceleration)


HAND_MADE: Mapping[str, HandMade] = MappingProxyType(
    {  # depths: ASE, Table 5; accelerations: ASE, Tables 1 and 2 (A100)
        "D2-DiT": _row("28 28 25 25 22 22 19 19 16 16", 28, 0.2343),
        "D3-DiT": _row("28 28 24 24 20 20 16 16 12 12", 28, 0.3046),
        "D4-DiT": _row("28 28 26 24 20 18 12 10 8 8", 28, 0.3456),
        "D7-DiT": _row("28 28 24 21 18 15 10 10 8 8", 28, 0.3892),
        "D1-U-ViT": _row("6 6 4 4 2 2 2 2 1 1", 6, 0.213),
        "D2-U-ViT": _row("5 5 4 4 2 2 1 1 1 1", 6, 0.248),
        "D3-U-ViT": _row("3 3 2 2 2 2 1 1 1 1", 6, 0.297),
        "D6-U-ViT": _row("2 2 2 2 1 1 1 1 1 1", 6, 0.326),
    }
)

MOVED = "@flow"
"""End of a preset's name when it is moved to the clock of flow matching."""

PRESET_NAMES = (*HAND_MADE, *(name + MOVED for name in HAND_MADE))
"""Names of all presets, without ``full``."""


def is_preset(name: str) -> bool:
    """Whether a name stands for a preset or ``full``."""
    return name == FULL or name in PRESET_NAMES


def paper_row(name: str) -> HandMade:
    """Return the paper's row of a preset, moved or not."""
    return HAND_MADE[name.removesuffix(MOVED)]


def unscaled(name: str, num_intervals: int = 10, edges: Edges | None = None) -> ExitSchedule:
    """Return a preset at the depth of the paper's model.

    A plain preset keeps its ten depths, whatever the edges. A moved one has, in each interval,
    the depth that the paper's model runs at the signal-to-noise ratio of its middle.

    Args:
        name: Name of the preset.
        num_intervals: Intervals of a moved preset.
        edges: Edges of the intervals; None for equal ones.

    Raises:
        KeyError: If no preset has this name.
    """
    schedule = paper_row(name).schedule
    if name.endswith(MOVED):
        source = "vp" if "U-ViT" in name else "ddpm"
        return schedule.moved(source, "flow", num_intervals=num_intervals, edges=edges)
    fits = edges is not None and len(edges) == schedule.num_intervals + 1
    return ExitSchedule(schedule.depths, edges, schedule.clock) if fits else schedule


presets: Mapping[str, ExitSchedule] = MappingProxyType(
    {name: unscaled(name) for name in PRESET_NAMES}
)
"""The hand-made schedules by their name in the paper, unscaled; ``@flow`` ends those that are
moved to the clock of flow matching."""


def scale_depth(depth: int, *, old: int, new: int) -> int:
    """Scale a depth from ``old`` to ``new`` blocks: ``floor(depth * new / old + 1/2)``."""
    return (2 * depth * new + old) // (2 * old)


def scale_schedule(
    schedule: ExitSchedule, *, old: int, new: int, min_depth: int = 1, max_depth: int | None = None
) -> ExitSchedule:
    """Scale a schedule from a model with ``old`` exit blocks to one with ``new``.

    Args:
        schedule: Schedule for ``old`` exit blocks.
        old: Exit blocks of the original model.
        new: Exit blocks of the target model.
        min_depth: Smallest depth in the result.
        max_depth: Largest depth in the result; None means ``new``.
    """
    top = new if max_depth is None else max_depth
    scaled = (scale_depth(depth, old=old, new=new) for depth in schedule.depths)
    depths = tuple(min(max(depth, min_depth), top) for depth in scaled)
    return ExitSchedule(depths, schedule.edges, schedule.clock)


def preset_for(
    name: str,
    num_exit_blocks: int,
    *,
    min_depth: int = 1,
    max_depth: int | None = None,
    num_intervals: int = 10,
    edges: Edges | None = None,
) -> ExitSchedule:
    """Scale a preset (or ``"full"``) to a model with ``num_exit_blocks`` exit blocks.

    Args:
        name: Name of the preset, such as ``D3-DiT`` or ``D3-DiT@flow``.
        num_exit_blocks: Exit blocks of the model.
        min_depth: Smallest depth in the result.
        max_depth: Largest depth in the result; None means ``num_exit_blocks``.
        num_intervals: Intervals of ``full`` and of moved presets; the others have ten.
        edges: Edges of the intervals; None for equal ones.

    Raises:
        KeyError: If no preset has this name.
    """
    if name == FULL:
        return ExitSchedule.flat(num_exit_blocks, num_intervals, edges)
    return scale_schedule(
        unscaled(name, num_intervals, edges),
        old=paper_row(name).num_exit_blocks,
        new=num_exit_blocks,
        min_depth=min_depth,
        max_depth=max_depth,
    )
