"""Paired comparison of searched schedules with the hand-made ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schedsearch.records import ConfirmRecord
from schedsearch.statistics.paired import (
    Verdict,
    how_sure,
    paired_difference,
    verdict_of,
)
from schedsearch.statistics.same_protocol import Measured

Pair = tuple[int, int]
"""Trial numbers of a preset and of its rival."""


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
    """Half of the 95 % interval: Student's t over evaluation seeds, or over both kinds."""
    num_seeds: int
    """Evaluation seeds."""
    num_training_seeds: int = 0
    """Fine-tunes anew of both; 0 for the trials' own weights."""
    num_better: int = 0
    """Seeds at which the rival is better on average: training seeds where there are any."""

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        return verdict_of(self.difference, self.half_width)

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.num_training_seeds:
            kind = "training seeds"
            return how_sure(self.verdict, self.num_better, self.num_training_seeds, kind)
        return how_sure(self.verdict, self.num_better, self.num_seeds)


def compare_over_seeds(
    pairs: Sequence[Pair], confirmations: Iterable[ConfirmRecord]
) -> list[Comparison]:
    """Compare every preset with its rival at the evaluation seeds that both were confirmed with.

    The rival was chosen by the FID of the search and by the runoff; the confirmation has seeds
    of its own, so the choice does not flatter it (no winner's curse in the difference).
    Seeds at which the two were not measured alike are left out, and pairs without two others.
    """
    by_trial: dict[int, dict[int, ConfirmRecord]] = {}
    for record in confirmations:
        by_trial.setdefault(record.number, {})[record.seed] = record
    found = []
    for preset, rival in pairs:
        ours, theirs = by_trial.get(rival, {}), by_trial.get(preset, {})
        difference = paired_difference(*_measured_alike(ours, theirs))
        if difference is None:
            continue
        found.append(
            Comparison(
                preset=preset,
                rival=rival,
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
