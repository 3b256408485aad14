"""Paired comparison of searched schedules with the hand-made ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from schedsearch.records import ConfirmRecord

RUNOFF_SIZE = 3
"""Searched schedules per preset among which further seeds choose."""

Verdict = Literal["better", "no difference", "worse"]


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

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        if self.difference + self.half_width < 0:
            return "better"
        if self.difference - self.half_width > 0:
            return "worse"
        return "no difference"


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and its 95 % interval by Student's t.

    Raises:
        ValueError: With fewer than two values.
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    n = len(values)
    if n < 2:
        raise ValueError(f"An interval needs two values or more, but got {n}.")
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    return mean, (mean - half, mean + half)


def contenders_for(preset: C, searched: Sequence[C], size: int = RUNOFF_SIZE) -> list[C]:
    """The searched schedules with the best FIDs at a latency no higher than the preset's.

    Measured latencies are compared with measured ones only.
    """
    no_slower = [
        entry
        for entry in searched
        if entry.latency_source == preset.latency_source and entry.latency_ms <= preset.latency_ms
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
    """
    by_trial: dict[int, dict[int, float]] = {}
    for record in confirmations:
        by_trial.setdefault(record.number, {})[record.seed] = record.fid
    found = []
    for preset in presets:
        rival = rival_of(preset, searched, runoff)
        if rival is None:
            continue
        ours, theirs = by_trial.get(rival.trial, {}), by_trial.get(preset.trial, {})
        seeds = sorted(ours.keys() & theirs.keys())
        if len(seeds) < 2:
            continue
        mean, (low, high) = mean_interval([ours[seed] - theirs[seed] for seed in seeds])
        found.append(
            Comparison(
                preset=preset.trial,
                rival=rival.trial,
                difference=mean,
                half_width=(high - low) / 2,
                num_seeds=len(seeds),
            )
        )
    return found
