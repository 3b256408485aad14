"""Hypervolume of a run, as a share of the box up to a reference point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from schedsearch.hand_made import FULL
from schedsearch.pareto import REFERENCE, hypervolume

if TYPE_CHECKING:
    from schedsearch.records import TrialRecord

REFERENCE_FID, REFERENCE_LATENCY = REFERENCE


def hypervolume_of(records: Iterable[TrialRecord]) -> float | None:
    """Hypervolume of finished trials by their predicted latencies."""
    complete = [(r.label, r.evaluation.values) for r in records if r.evaluation is not None]
    full = next((values for label, values in complete if label == FULL), None)
    return hypervolume_in_box([values for _, values in complete], full)


def hypervolume_in_box(
    points: Sequence[tuple[float, float]], full: tuple[float, float] | None
) -> float | None:
    """Hypervolume as a share of the box up to the reference point, in [0, 1].

    Args:
        points: (FID, latency) of schedules.
        full: The same of full depth, which sets the units; None gives None.
    """
    if full is None or not (full[0] > 0 and full[1] > 0):
        return None
    scaled = [(fid / full[0], latency / full[1]) for fid, latency in points]
    return hypervolume(scaled, REFERENCE) / (REFERENCE_FID * REFERENCE_LATENCY)
