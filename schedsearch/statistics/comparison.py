"""Paired comparison of searched schedules with the hand-made ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from schedsearch.records import ConfirmRecord
from schedsearch.statistics.intervals import mean_interval
from schedsearch.statistics.paired import (
    Verdict,
    how_sure,
    paired_difference,
    verdict_of,
)
from schedsearch.statistics.same_protocol import Measured

__all__ = [
    "RUNOFF_SIZE",
    "Candidate",
    "Comparison",
    "Verdict",
    "compare_with_presets",
    "contenders_for",
    "mean_interval",
    "measured_by",
    "rival_of",
]

RUNOFF_SIZE = 3
"""Searched schedules per preset among which further seeds choose."""


class Candidate(Protocol):
    """What the comparison needs of a finished schedule."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One preset against the rival that the search found for it."""

    preset: int
    """Trial number."""
    rival: int
    """Trial number."""
    difference: float
    """Mean over seeds of FID(rival) - FID(preset); negative means the search found better."""
    half_width: float
    """Half of the 95 % interval (Student's t over the seeds)."""
    num_seeds: int
    num_better: int = 0
    """Seeds at which the rival is better."""

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        return verdict_of(self.difference, self.half_width)

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        return how_sure(self.verdict, self.num_better, self.num_seeds)


def contenders_for(preset: C, searched: Sequence[C], size: int = RUNOFF_SIZE) -> list[C]:
    """The searched schedules with the best FIDs at a latency no higher than the preset's.

    Measured latencies are compared with measured ones only. The table must agree: among many
    schedules some slower one has a lucky measurement.
    """
    no_slower = [
        entry
        for entry in searched
        if entry.latency_source == preset.latency_source
        and entry.latency_ms <= preset.latency_ms
        and entry.predicted_latency_ms <= preset.predicted_latency_ms
    ]
    return sorted(no_slower, key=lambda entry: (entry.fid, entry.latency_ms))[:size]


def rival_of(
    preset: C, searched: Sequence[C], runoff: Mapping[int, float] | None = None
) -> C | None:
    """The best searched schedule at the preset's latency.

    A search proposes what was good at its one evaluation seed, so the best few by that FID go
    through a runoff at further seeds.

    Args:
        preset: The hand-made schedule.
        searched: Schedules of the search.
        runoff: Mean FID at the runoff's seeds by trial number. With fewer than two of the
            contenders in it, the FID of the search decides.
    """
    contenders = contenders_for(preset, searched)
    known = {} if runoff is None else runoff
    finalists = [entry for entry in contenders if entry.trial in known]
    if len(finalists) > 1:
        return min(finalists, key=lambda entry: known[entry.trial])
    return contenders[0] if contenders else None


def compare_with_presets(
    presets: Sequence[C],
    searched: Sequence[C],
    confirmations: Iterable[ConfirmRecord],
    runoff: Mapping[int, float] | None = None,
) -> list[Comparison]:
    """Compare every preset with its rival at the seeds that both were confirmed with.

    The rival was chosen by the FID of the search and by the runoff; the confirmation has seeds
    of its own, so the choice does not flatter it (no winner's curse in the difference).
    Seeds at which the two were not measured alike are left out.
    """
    by_trial: dict[int, dict[int, ConfirmRecord]] = {}
    for record in confirmations:
        by_trial.setdefault(record.number, {})[record.seed] = record
    found = []
    for preset in presets:
        rival = rival_of(preset, searched, runoff)
        if rival is None:
            continue
        ours, theirs = by_trial.get(rival.trial, {}), by_trial.get(preset.trial, {})
        difference = paired_difference(*_measured_alike(ours, theirs))
        if difference is None:
            continue
        found.append(
            Comparison(
                preset=preset.trial,
                rival=rival.trial,
                difference=difference.mean,
                half_width=difference.half_width,
                num_seeds=difference.num_seeds,
                num_better=difference.num_better,
            )
        )
    return found


def _measured_alike(
    ours: Mapping[int, ConfirmRecord], theirs: Mapping[int, ConfirmRecord]
) -> tuple[dict[int, float], dict[int, float]]:
    """FIDs by seed of the protocol that both were measured by at most seeds."""
    alike: dict[Measured, list[int]] = {}
    for seed in sorted(ours.keys() & theirs.keys()):
        if (protocol := measured_by(ours[seed])) == measured_by(theirs[seed]):
            alike.setdefault(protocol, []).append(seed)
    seeds = max(alike.values(), key=len, default=[])
    return {seed: ours[seed].fid for seed in seeds}, {seed: theirs[seed].fid for seed in seeds}


def measured_by(record: ConfirmRecord) -> Measured:
    """What another confirmation must share to be compared with this one."""
    return Measured(record.features, record.num_samples, record.num_steps)
