"""Turns the results of a run into findings: every statistic that the report shows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.schedules.hand_made import FULL
from schedsearch.objectives import fid_title
from schedsearch.planning.cells import visited_excess
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.raising import rung_agreement
from schedsearch.statistics.comparison import Comparison, measured_by
from schedsearch.statistics.findings import (
    Estimate,
    PresetFinding,
    RunFindings,
    ScheduleFinding,
)
from schedsearch.statistics.intervals import Interval, mean_over_seeds
from schedsearch.statistics.membership import ConfirmedSchedule, front_membership
from schedsearch.statistics.paired import paired_difference
from schedsearch.statistics.rank_agreement import RankAgreement, rank_agreement
from schedsearch.statistics.same_protocol import Measured
from schedsearch.statistics.winners_curse import TwiceMeasured, WinnersCurse, winners_curse

if TYPE_CHECKING:
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.records import ConfirmRecord
    from schedsearch.runs.results import FrontEntry, RunResults

Confirmed = Mapping[int, Sequence["ConfirmRecord"]]
"""By trial, the confirmations that compare with each other."""


def findings_of(results: RunResults, error_table: ErrorTable | None = None) -> RunFindings:
    """Everything that the report says of a run.

    Confirmations by another protocol than most of them are left out of what compares schedules.

    Args:
        results: The run.
        error_table: Of the profile stage, to be checked against the FIDs.
    """
    protocol, confirmed = _by_main_protocol(results)
    curse = _curse(results, confirmed)
    front = {entry.trial for entry in results.front()}
    shown = [e for e in results.entries if e.trial in front or e.name is not None]
    members = front_membership(
        {
            e.trial: ConfirmedSchedule(
                _by_seed(confirmed[e.trial]), e.latency_ms, e.latency_spread_ms or 0.0
            )
            for e in results.comparable()
            if e.trial in confirmed
        }
    )
    full = results.full()
    found = {}
    for entry in results.entries:
        records = confirmed.get(entry.trial, ())
        finding = _finding(entry, records, on_front=entry.trial in front, full=full)
        if entry.latency_source != "measured":  # at the pace of those that were
            finding = replace(finding, latency_ms=results.drift * entry.latency_ms)
        if full is not None and entry.trial != full.trial and full.trial in confirmed:
            to_full = paired_difference(_by_seed(records), _by_seed(confirmed[full.trial]))
            finding = replace(finding, to_full=to_full)
        found[entry.trial] = replace(finding, membership=members.get(entry.trial))
    found = _with_expected(found, curse)
    baselines = [entry for entry in results.entries if entry.name is not None]
    return RunFindings(
        name=results.settings.name,
        fid_name=fid_name(results.entries),
        fresh_fid_name=_fresh_name(protocol),
        fresh_alike=protocol is not None
        and all(
            Measured(e.features, e.num_samples) == protocol
            and not e.control_samples
            and e.num_finetunes == 1
            for e in results.entries
        ),
        audit_name=results.settings.evaluation.auditor,
        schedules=tuple(
            found[entry.trial] for entry in sorted(shown, key=lambda entry: entry.latency_ms)
        ),
        others=tuple(f for f in found.values() if f.trial not in {e.trial for e in shown}),
        presets=_presets(results, found),
        fine_tunes=_fine_tunes(results),
        hypervolume=results.hypervolume(),
        baseline_hypervolume=results.hypervolume(baselines),
        curse=curse,
        rungs=rung_agreement(results),
        table=None if error_table is None else _table_agreement(results, error_table),
    )


def _fine_tunes(results: RunResults) -> str:
    settings = results.settings
    shared = settings.profile is not None and settings.profile.start == "shared"
    own = settings.recipe.num_steps or settings.evaluation.confirm_steps
    several = settings.evaluation.seeds_per_trial
    one, fresh = "one fine-tune of each schedule", ""
    if several > 1:
        one, fresh = f"the first of {several} fine-tunes of each schedule", " at fresh seeds"
    compared = results.comparisons()
    if any(found.num_training_seeds for found in compared):
        once = [found.preset for found in compared if not found.num_training_seeds]
        names = ", ".join(e.title for e in results.hand_made() if e.trial in once)
        lone = f", and so do the verdicts on {names}, which another one may shift" * bool(once)
        return f"All other figures{fresh} come from {one}{lone}."
    if own and several > 1:
        behind = f"All figures{fresh} come from {one}"
    elif own:
        behind = f"Each schedule was fine-tuned once{', from weights that all share' * shared}"
    elif shared:
        behind = "All schedules share the weights of one fine-tune"
    else:
        return "No schedule was fine-tuned."
    return f"{behind}: another training seed may shift this."


def fid_name(entries: Sequence[FrontEntry]) -> str:
    """Heading of an FID: extractor and sample count belong to the number."""
    if not entries:
        return "FID"
    first = entries[0]
    return fid_title(first)


def _fresh_name(protocol: Measured | None) -> str:
    if protocol is None:
        return ""
    further = f", +{protocol.num_steps} steps" if protocol.num_steps else ""
    return f"FID ({protocol.features}, n={protocol.num_samples}{further})"


def _by_main_protocol(results: RunResults) -> tuple[Measured | None, Confirmed]:
    """The protocol of most confirmations, and those by it of trials with all seeds."""
    records = results.confirmations
    if not records:
        return None, {}
    protocol = statistics.mode(measured_by(record) for record in records)
    by_trial: dict[int, dict[int, ConfirmRecord]] = {}
    for record in records:
        if measured_by(record) == protocol:
            by_trial.setdefault(record.number, {})[record.seed] = record
    # A schedule that lacks a seed would take that seed from all others.
    wanted = max((len(seeds) for seeds in by_trial.values()), default=0)
    return protocol, {
        n: list(seeds.values()) for n, seeds in by_trial.items() if len(seeds) == wanted > 1
    }


def _by_seed(records: Sequence[ConfirmRecord]) -> dict[int, float]:
    return {record.seed: record.fid for record in records}


def _finding(
    entry: FrontEntry,
    records: Sequence[ConfirmRecord],
    *,
    on_front: bool,
    full: FrontEntry | None,
) -> ScheduleFinding:
    audits = [record.audit_fid for record in records if record.audit_fid is not None]
    return ScheduleFinding(
        trial=entry.trial,
        name=entry.name,
        origin=entry.origin,
        depths=entry.depths,
        on_front=on_front,
        fid=entry.fid,
        fresh=_estimate([r.fid for r in records], [r.fid_ci95 for r in records]),
        kid=entry.kid,
        fresh_kid=_estimate([r.kid for r in records], [r.kid_ci95 for r in records]),
        latency_ms=entry.latency_ms,
        latency_half_width=entry.latency_spread_ms,
        saved=entry.acceleration,
        saved_half_width=_saved_half_width(entry, full),
        audited=statistics.fmean(audits) if len(audits) == len(records) > 1 else None,
    )


def _estimate(values: Sequence[float], intervals: Sequence[Interval | None]) -> Estimate | None:
    found = mean_over_seeds(values, intervals)
    return None if found is None else (found.mean, found.half_width)


def _saved_half_width(entry: FrontEntry, full: FrontEntry | None) -> float | None:
    """Half-width of the saved share: a measured spread is that of the ratio to full depth."""
    if full is None or entry.latency_spread_ms is None:
        return None
    return 0.0 if entry.trial == full.trial else entry.latency_spread_ms / full.latency_ms


def _curse(results: RunResults, confirmed: Confirmed) -> WinnersCurse | None:
    """Not where more than luck lies between the FIDs of the search and those at fresh seeds.

    Fine-tunes were continued, FIDs corrected by control images, or means over fine-tunes.
    """
    evaluation = results.settings.evaluation
    sides: dict[bool, list[TwiceMeasured]] = {True: [], False: []}
    for entry in results.entries:
        records = confirmed.get(entry.trial, ())
        if not records or any(r.num_steps or r.features != entry.features for r in records):
            continue
        if evaluation.control_samples or evaluation.seeds_per_trial > 1:
            continue
        mean = statistics.fmean(record.fid for record in records)
        sides[entry.name is None].append(TwiceMeasured(entry.fid_search, mean, entry.features))
    return winners_curse(sides[True], sides[False])


def _with_expected(
    found: dict[int, ScheduleFinding], curse: WinnersCurse | None
) -> dict[int, ScheduleFinding]:
    """Corrected FIDs for searched schedules that were not confirmed.

    The fresh seeds' own noise, which all confirmed schedules share, comes on top of the curse's.
    """
    widths = [f.fresh[1] for f in found.values() if f.fresh is not None]
    if curse is None or not widths:
        return found
    common = statistics.median(widths)
    corrected = dict(found)
    for trial, finding in found.items():
        if finding.name is None and finding.fresh is None and finding.on_front:
            if (expected := curse.expected(finding.fid)) is None:
                continue
            estimate = (expected[0], math.hypot(expected[1], common))
            corrected[trial] = replace(finding, expected=estimate)
    return corrected


def _presets(
    results: RunResults, found: Mapping[int, ScheduleFinding]
) -> tuple[PresetFinding, ...]:
    compared = {c.preset: c for c in results.comparisons()}
    audited: dict[int, Comparison] = {c.preset: c for c in results.audit()}
    presets = []
    for preset in results.hand_made():
        rival = results.rival_of(preset)
        presets.append(
            PresetFinding(
                preset=found[preset.trial],
                rival=None if rival is None else found[rival.trial],
                comparison=compared.get(preset.trial),
                audit=audited.get(preset.trial),
            )
        )
    return tuple(presets)


def _table_agreement(results: RunResults, table: ErrorTable) -> RankAgreement | None:
    """Sums of the error table, as the search uses them, against its FIDs; without full depth."""
    visits = () if results.latency is None else results.latency.visits
    if not visits:
        return None
    space = results.settings.space.build()
    excess = visited_excess(table, space, visits)
    chosen = [e for e in results.entries if e.name != FULL and ExitSchedule(e.depths) in space]
    rows = range(space.num_intervals)
    sums = [
        float(excess[rows, [depth - space.min_depth for depth in entry.depths]].sum())
        for entry in chosen
    ]
    return rank_agreement(sums, [entry.fid_search for entry in chosen])
