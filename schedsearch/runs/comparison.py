"""Each preset against a searched schedule that is no slower, judged by held-out seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedsearch.statistics.paired import PairedDifference, paired_difference

if TYPE_CHECKING:
    from schedsearch.records import ConfirmRecord
    from schedsearch.runs.entry import FrontEntry


FASTER_ABOVE = 0.03
"""Share of a preset's latency above which a searched schedule counts as faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A preset and the searched schedule that it is compared with."""

    preset: FrontEntry
    searched: FrontEntry | None
    """None where no searched schedule is as fast."""
    difference: PairedDifference | None
    """FID(searched) - FID(preset) over held-out seeds; None without them."""
    audit: PairedDifference | None
    """The same by the auditor's FID."""
    num_training_seeds: int = 0
    """Training seeds that the interval is over; 0 for evaluation seeds of one fine-tune."""

    @property
    def time_saved(self) -> float:
        """Share of the preset's latency by which the searched schedule is faster."""
        if self.searched is None:
            return 0.0
        return 1.0 - self.searched.latency_ms / self.preset.latency_ms

    @property
    def is_faster(self) -> bool:
        """Whether the two differ so much in latency that the report must say so."""
        return self.time_saved > FASTER_ABOVE


def candidates_for(preset: FrontEntry, searched: Iterable[FrontEntry]) -> list[FrontEntry]:
    """Searched schedules that the latency model calls no slower, best FID of the search first."""
    limit = preset.latency.predicted_ms
    no_slower = [entry for entry in searched if entry.latency.predicted_ms <= limit]
    return sorted(no_slower, key=lambda entry: (entry.fid, entry.latency.predicted_ms))


def opponent_of(preset: FrontEntry, searched: Iterable[FrontEntry]) -> FrontEntry | None:
    """The searched schedule that a preset is compared with; None where none is as fast.

    Its modelled latency is no higher than the preset's, and its measured one not higher beyond
    its interval. Of several the one with the best FID in the search is taken, so that held-out
    seeds judge and never choose.
    """
    for entry in candidates_for(preset, searched):
        slower_by = entry.latency.ms - preset.latency.ms
        comparable = entry.latency.source == preset.latency.source
        if comparable and slower_by <= (entry.latency.half_width_ms or 0.0):
            return entry
    return None


def compare(
    preset: FrontEntry,
    searched: FrontEntry | None,
    retrained: Sequence[ConfirmRecord],
    num_seeds: int,
) -> Comparison:
    """Compare a preset with a searched schedule.

    Where both were retrained with two training seeds or more, the interval is over the training
    seeds; each has its own evaluation seeds. Elsewhere it is over the held-out evaluation seeds
    of the trials' own weights.

    Args:
        preset: The hand-made schedule.
        searched: Its opponent, if there is one.
        retrained: All measurements of retrained weights.
        num_seeds: Evaluation seeds of each training seed; one that lacks some is left out.
    """
    if searched is None:
        return Comparison(preset=preset, searched=None, difference=None, audit=None)
    pair = (searched.trial, preset.trial)
    ours, theirs = (_by_training_seed(retrained, trial, num_seeds) for trial in pair)
    over_training = paired_difference(ours, theirs)
    if over_training is not None:
        audits = (_by_training_seed(retrained, t, num_seeds, audited=True) for t in pair)
        return Comparison(
            preset=preset,
            searched=searched,
            difference=over_training,
            audit=paired_difference(*audits),
            num_training_seeds=over_training.num_seeds,
        )
    return Comparison(
        preset=preset,
        searched=searched,
        difference=paired_difference(searched.fids_by_seed, preset.fids_by_seed),
        audit=paired_difference(searched.audits_by_seed, preset.audits_by_seed),
    )


def _by_training_seed(
    retrained: Sequence[ConfirmRecord], trial: int, num_seeds: int, *, audited: bool = False
) -> dict[int, float]:
    """Mean FID of a trial over the evaluation seeds of each training seed."""
    found: dict[int, list[float]] = {}
    for record in retrained:
        fid = record.audit_fid if audited else record.fid
        if record.number == trial and record.training_seed is not None and fid is not None:
            found.setdefault(record.training_seed, []).append(fid)
    return {seed: statistics.fmean(fids) for seed, fids in found.items() if len(fids) == num_seeds}
