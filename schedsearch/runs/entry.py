"""One finished schedule with all that a run knows of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.statistics.intervals import mean_over_seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEntry:
    """One finished schedule, as ``front`` shows it."""

    trial: int
    name: str | None
    depths: tuple[int, ...]
    fid: float
    kid: float
    latency_ms: float
    latency_source: str
    latency_spread_ms: float | None
    predicted_latency_ms: float
    acceleration: float
    num_samples: int
    features: str
    fid_search: float
    """What the search saw, at its own seeds; ``fid`` too, unless the rung was raised."""
    fid_confirmed: float | None = None
    """Mean over the fresh seeds."""
    fid_ci95: tuple[float, float] | None = None
    """95 % interval of that mean, the one that the report shows beside it; verdicts have another,
    of the difference to the preset, by Student's t over the paired seeds.
    """
    fid_ci95_over: Literal["images", "seeds"] | None = None
    """``images``: bootstrap over the images of each seed, pooled. ``seeds``: Student's t over
    the seeds, where one has no bootstrap (``evaluation.bootstrap: 0``).
    """
    confirm_seeds: int = 0
    confirm_samples: int = 0
    """Images per fresh seed; with another number than ``num_samples`` the two FIDs do not
    compare.
    """
    confirm_steps: int = 0
    """Steps by which the fine-tune was continued before those seeds."""
    fid_audited: float | None = None
    """Mean over the fresh seeds by ``evaluation.auditor``."""
    control_samples: int = 0
    """Images at full depth that ``fid`` is corrected by; 0 for a plain FID."""
    num_finetunes: int = 1
    """Fine-tunes that ``fid`` is the mean of, each with an evaluation seed of its own; of fresh
    seeds see ``confirm_seeds``."""
    origin: str | None = None
    """``dp`` for a schedule that the error table proposed, None for the sampler's."""

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name or f"trial {self.trial}"

    @property
    def point(self) -> tuple[float, float]:
        """(FID, latency)."""
        return self.fid, self.latency_ms


def build_entry(
    record: TrialRecord,
    report: LatencyReport | None,
    confirmed: Sequence[ConfirmRecord],
    *,
    raised: bool,
) -> FrontEntry:
    """What is known of a complete trial.

    Args:
        record: The trial.
        report: Latencies, when there are any.
        confirmed: Its FIDs at the seeds of the verdicts.
        raised: Whether these replace the search's own FID.
    """
    evaluation = record.evaluation
    assert evaluation is not None  # complete records only
    latency, spread = evaluation.latency_ms, None
    source: str = evaluation.latency_source
    predicted, acceleration = latency, 0.0
    if report is not None:
        # Not the record's, which another table made if resources have changed since.
        predicted = report.predicted_ms(record.depths) or predicted
        if source == "predicted":
            latency = predicted
        acceleration = 1.0 - latency / report.full_ms
        if (measured := report.measured.get(record.number)) is not None:
            latency, spread = measured.latency_ms, measured.spread_ms
            source, acceleration = "measured", measured.acceleration
        elif report.measured and source == "measured":  # by the trial's own worker, long ago
            source = "in place"
    fids = [c.fid for c in confirmed]
    audited = [c.audit_fid for c in confirmed if c.audit_fid is not None]
    fresh = mean_over_seeds(fids, [c.fid_ci95 for c in confirmed])
    fid, kid, num_samples = evaluation.fid, evaluation.kid, evaluation.num_samples
    control_samples, num_finetunes = evaluation.control_samples, evaluation.num_finetunes
    if raised and fresh is not None:
        fid, kid = fresh.mean, statistics.fmean(c.kid for c in confirmed)
        num_samples, control_samples, num_finetunes = confirmed[0].num_samples, 0, 1
    return FrontEntry(
        trial=record.number,
        name=record.label,
        depths=record.depths,
        fid=fid,
        kid=kid,
        latency_ms=latency,
        latency_source=source,
        latency_spread_ms=spread,
        predicted_latency_ms=predicted,
        acceleration=acceleration,
        num_samples=num_samples,
        control_samples=control_samples,
        num_finetunes=num_finetunes,
        features=evaluation.features,
        fid_search=evaluation.fid,
        fid_confirmed=None if fresh is None else fresh.mean,
        fid_ci95=None if fresh is None else fresh.ci95,
        fid_ci95_over=None if fresh is None else fresh.over,
        confirm_seeds=len(fids),
        confirm_samples=confirmed[0].num_samples if confirmed else 0,
        confirm_steps=confirmed[0].num_steps if confirmed else 0,
        fid_audited=sum(audited) / len(audited) if len(audited) > 1 else None,
        origin=record.origin,
    )
