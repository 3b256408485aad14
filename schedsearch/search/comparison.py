"""Paired comparison of searched schedules with the hand-made ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from schedsearch.records import ConfirmRecord

Verdict = Literal["better", "no difference", "worse"]


class Candidate(Protocol):
    """What the comparison needs of a finished schedule."""

    @property
    def trial(self) -> int:
        """Trial number."""
        ...

    @property
    def fid(self) -> float:
        """FID of the search, which chooses the rival."""
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


def rival_of(preset: C, searched: Sequence[C]) -> C | None:
    """The searched schedule with the best FID at a latency no higher than the preset's.

    Measured latencies are compared with measured ones only.
    """
    rivals = [
        entry
        for entry in searched
        if entry.latency_source == preset.latency_source and entry.latency_ms <= preset.latency_ms
    ]
    return min(rivals, key=lambda entry: (entry.fid, entry.latency_ms), default=None)


def compare_with_presets(
    presets: Sequence[C], searched: Sequence[C], confirmations: Iterable[ConfirmRecord]
) -> list[Comparison]:
    """Compare every preset with its rival at the seeds that both were confirmed with.

    The rival was chosen by the FID of the search; the confirmation has fresh seeds, so the
    choice does not flatter it (no winner's curse in the difference).
    """
    by_trial: dict[int, dict[int, float]] = {}
    for record in confirmations:
        by_trial.setdefault(record.number, {})[record.seed] = record.fid
    found = []
    for preset in presets:
        rival = rival_of(preset, searched)
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
