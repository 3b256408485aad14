"""Which trials are measured again after the search, and why these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schedsearch.runs.results import FrontEntry, RunResults

FRONT_SHARE = 3
"""Schedules of the front that are confirmed beside the presets and their rivals."""


def trials_to_run_off(results: RunResults) -> list[int]:
    """The contenders of each preset, where there is more than one."""
    fields = [results.contenders_for(preset) for preset in results.hand_made()]
    return list(dict.fromkeys(c.trial for field in fields if len(field) > 1 for c in field))


def trials_to_confirm(results: RunResults) -> list[int]:
    """Full depth, every preset, for each preset its rival, and some of the front.

    Every trial once the low rung was raised.
    """
    if results.raised is not None:
        return [entry.trial for entry in results.entries]
    presets = results.hand_made()
    chosen = [entry.trial for entry in presets]
    if (full := results.full()) is not None:
        chosen.insert(0, full.trial)
    for preset in presets:
        if (rival := results.rival_of(preset)) is not None:
            chosen.append(rival.trial)
    chosen += [entry.trial for entry in spread_over_latency(results.front(), FRONT_SHARE)]
    return list(dict.fromkeys(chosen))


def trials_to_retrain(results: RunResults) -> list[int]:
    """Every preset that has a rival, and the rivals."""
    pairs = [(preset, results.rival_of(preset)) for preset in results.hand_made()]
    met = [(preset.trial, rival.trial) for preset, rival in pairs if rival is not None]
    return list(dict.fromkeys([p for p, _ in met] + [r for _, r in met]))


def spread_over_latency(front: Sequence[FrontEntry], count: int) -> list[FrontEntry]:
    """A few schedules of a front: the best FID of each of ``count`` equal ranges of latency."""
    if not front:
        return []
    low = min(entry.latency_ms for entry in front)
    width = (max(entry.latency_ms for entry in front) - low) / count
    best: dict[int, FrontEntry] = {}
    for entry in front:
        place = min(count - 1, int((entry.latency_ms - low) / width)) if width else 0
        if place not in best or entry.fid < best[place].fid:
            best[place] = entry
    return [best[place] for place in sorted(best)]
