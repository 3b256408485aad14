"""What the final report shows of a run: its rows and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schedsearch.runs.comparison import Comparison
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.results import RunResults

MIN_RANKED = 5
"""With fewer schedules a rank correlation says nothing."""

BAD_TAU = 0.3
"""Kendall's tau below which the search ranks badly: 65 % of pairs in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFindings:
    """A run as its report sees it."""

    results: RunResults
    front: tuple[FrontEntry, ...]
    shown: tuple[FrontEntry, ...]
    """Front, full depth, presets and their opponents, by latency."""
    comparisons: tuple[Comparison, ...]
    """One per preset."""
    seeds_on_front: Mapping[int, tuple[int, int]]
    """By trial: held-out seeds at which it is on the front, and held-out seeds."""
    tau: float | None
    """Kendall's tau of the search's FIDs against the held-out ones; None with too few."""

    @property
    def ranks_badly(self) -> bool:
        """Whether the search's FIDs must not be trusted."""
        return self.tau is not None and self.tau < BAD_TAU

    @property
    def held_out_title(self) -> str:
        """What the held-out FIDs are called; empty where there are none."""
        records = self.results.confirmations
        if not records:
            return ""
        seeds = len(self.results.settings.evaluation.confirm_seeds_used)
        return f"{seeds} held-out seeds, n={records[0].num_samples}"


def findings_of(results: RunResults) -> RunFindings:
    """Everything that the report says of a run."""
    front, comparisons = results.front(), results.comparisons()
    opponents = [found.searched for found in comparisons if found.searched is not None]
    baselines = [entry for entry in results.entries if entry.name is not None]
    shown = {entry.trial: entry for entry in (*front, *baselines, *opponents)}
    return RunFindings(
        results=results,
        front=tuple(front),
        shown=tuple(sorted(shown.values(), key=lambda entry: entry.latency_ms)),
        comparisons=tuple(comparisons),
        seeds_on_front=results.seeds_on_front(),
        tau=_tau(results.entries),
    )


def _tau(entries: Sequence[FrontEntry]) -> float | None:
    """Kendall's tau-b of the search's FIDs against the held-out means."""
    pairs = [(e.fid, found.mean) for e in entries if (found := e.held_out_fid) is not None]
    if len(pairs) < MIN_RANKED:
        return None
    from scipy.stats import kendalltau  # takes a second to import

    tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
    return tau if tau == tau else None  # not a number where one side is all equal
