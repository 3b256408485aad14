"""What a run found and how sure it is: plain data, to be shown by tables and sentences."""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.statistics.comparison import Comparison
from schedsearch.statistics.membership import Membership
from schedsearch.statistics.paired import PairedDifference
from schedsearch.statistics.rank_agreement import RankAgreement
from schedsearch.statistics.winners_curse import WinnersCurse

Estimate = tuple[float, float]
"""A value and the half-width of its 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFinding:
    """One schedule of the front or one of its baselines."""

    trial: int
    name: str | None
    """Name of a hand-made schedule; None for one that the search found."""
    origin: str | None
    """``dp`` for a schedule of the error table."""
    depths: tuple[int, ...]
    on_front: bool
    fid: float
    """At the search's seed, by which it was selected."""
    fresh: Estimate | None = None
    """Mean FID at fresh seeds, with the interval of ``intervals.mean_over_seeds``."""
    expected: Estimate | None = None
    """Without fresh seeds: what they would show, by the winner's curse of the confirmed."""
    kid: float
    fresh_kid: Estimate | None = None
    latency_ms: float
    latency_half_width: float | None
    """None for a predicted latency."""
    saved: float
    """Share of full depth's time."""
    saved_half_width: float | None = None
    membership: Membership | None = None
    to_full: PairedDifference | None = None
    audited: float | None = None
    """Mean FID at fresh seeds by the auditor."""

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name or f"trial {self.trial}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetFinding:
    """One hand-made schedule against the best searched one that is no slower."""

    preset: ScheduleFinding
    rival: ScheduleFinding | None
    """None where no searched schedule is as fast."""
    comparison: Comparison | None
    """None without fresh seeds."""
    audit: Comparison | None = None
    """The same pair by the auditor's FID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFindings:
    """Everything that the final tables and sentences say."""

    name: str
    fid_name: str
    """FID of the search, with extractor and number of images."""
    fresh_fid_name: str
    """The same of the confirmed FIDs; empty where there are none."""
    fresh_alike: bool
    """Whether both were measured alike but for the seeds, so that they compare."""
    audit_name: str | None
    """The auditor, where there is one."""
    schedules: tuple[ScheduleFinding, ...]
    """The front and its baselines, by latency."""
    others: tuple[ScheduleFinding, ...]
    """All other finished schedules."""
    presets: tuple[PresetFinding, ...]
    fine_tunes: str
    """How many fine-tunes are behind the verdicts: a sentence."""
    hypervolume: float | None
    baseline_hypervolume: float | None
    """The same of full depth and the hand-made schedules alone."""
    curse: WinnersCurse | None = None
    rungs: RankAgreement | None = None
    """FID of the search against the confirmed one."""
    table: RankAgreement | None = None
    """Sum of the error table against the FID of the search."""
