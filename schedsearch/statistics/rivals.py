"""Which searched schedule a hand-made one is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the choice needs of a finished schedule."""

    @property
    def trial(self) -> int:
        """Trial number."""
        ...

    @property
    def fid(self) -> float:
        """FID of the search, which chooses the contenders."""
        ...

    @property
    def latency_ms(self) -> float:
        """Latency, predicted or measured."""
        ...

    @property
    def latency_source(self) -> str:
        """``predicted`` or ``measured``."""
        ...

    @property
    def predicted_latency_ms(self) -> float:
        """Latency by the table, which knows no noise."""
        ...


C = TypeVar("C", bound=Candidate)

SPARES = 2
"""Likely contenders beyond the size of a runoff: of 24 schedules one block of a solver run below a
preset, 0.6 to 0.7 % of its latency, 3 were measured as slower (two searches of the digits).
"""


def contenders_for(preset: C, searched: Sequence[C], size: int) -> list[C]:
    """The searched schedules with the best FIDs at a latency no higher than the preset's.

    Measured latencies are compared with measured ones only. The table must agree: among many
    schedules some slower one has a lucky measurement.

    Args:
        preset: The hand-made schedule.
        searched: Schedules of the search.
        size: How many at most.
    """
    no_slower = [
        entry
        for entry in searched
        if entry.latency_source == preset.latency_source
        and entry.latency_ms <= preset.latency_ms
        and entry.predicted_latency_ms <= preset.predicted_latency_ms
    ]
    return sorted(no_slower, key=lambda entry: (entry.fid, entry.latency_ms))[:size]


def likely_contenders_for(preset: C, searched: Sequence[C], size: int) -> list[C]:
    """The contenders by the table's latencies alone: whose latency is worth measuring.

    Whatever was measured earlier does not count: a search that went on has schedules without
    a measurement, and they may be better.

    Args:
        preset: The hand-made schedule.
        searched: Schedules of the search.
        size: How many at most.
    """
    no_slower = [e for e in searched if e.predicted_latency_ms <= preset.predicted_latency_ms]
    return sorted(no_slower, key=lambda entry: (entry.fid, entry.predicted_latency_ms))[:size]


def winner_of(contenders: Sequence[C], runoff: Mapping[int, float]) -> C | None:
    """The rival: the best of the contenders by a runoff.

    A search proposes what was good at its one training and evaluation seed, so the best few by
    that FID go through a runoff at further seeds.

    Args:
        contenders: Of one preset, the best by the search's FID first.
        runoff: Mean FID in the runoff by trial number. With fewer than two of the contenders in
            it, the FID of the search decides.
    """
    finalists = [entry for entry in contenders if entry.trial in runoff]
    if len(finalists) > 1:
        return min(finalists, key=lambda entry: runoff[entry.trial])
    return contenders[0] if contenders else None
