"""Latency in a run: the table before the first trial, the measurements after the last.

Both happen in the driver while no worker is active, so nothing else uses the device.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.evaluation.latency import BASELINE, cost_times, measure_schedules
from schedsearch.evaluation.latency_protocol import study_protocol
from schedsearch.evaluation.latency_table import LatencyTable, measure_table
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.pareto import non_dominated
from schedsearch.runs.comparison import candidates_for
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.starts import timed_network

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.results import RunResults
    from schedsearch.workers.workbench import Workbench


def open_table(
    bench: Workbench, folder: RunFolder | None
) -> tuple[LatencyTable, LatencyReport, bool]:
    """The run's latency table: the kept one, or a new one where there is none.

    A kept table serves as long as device and protocol are the same, so that the predicted
    latencies of all trials of a run compare. It counts exit adapters until a check drops them.

    Returns:
        The table, the report that holds it, and whether it was measured now.

    Raises:
        StorageError: If the kept one is damaged.
        ConfigError: If the pretrained weights are not those that the run started from.
    """
    settings, net = bench.settings, timed_network(bench, folder)
    adapted = net is not bench.backbone
    protocol = study_protocol(net, settings)
    weights = fingerprint(bench.pretrained)
    report = LatencyReport.load(folder) if folder is not None else None
    if folder is not None and report is not None:
        try:
            table = LatencyTable.from_dict(report.table)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StorageError(
                f"{folder.latency_file} holds no latency table: {error}. Delete it; it is "
                "measured again."
            ) from error
        if report.weights not in ("", weights):
            raise ConfigError(
                "All trials of a run start from the same weights, but "
                f"{settings.backbone.checkpoint} has changed since {folder.shown} was started. "
                "Restore the file, or choose another folder with --output."
            )
        if table.protocol == protocol and report.adapters == adapted:
            return table, report, False
    table = measure_table(
        net,
        bench.solver,
        protocol,
        repeats=settings.evaluation.latency_repeats,
        min_depth=settings.space.min_depth,
        seed=settings.search.seed,
    )
    full = ExitSchedule.flat(net.num_exit_blocks)
    report = LatencyReport(
        table=table.to_dict(),
        full_ms=table.predict(full, cost_times(bench.solver)),
        visits=bench.visits,
        weights=weights,
        adapters=adapted,
    )
    if folder is not None:
        report.save(folder)
    return table, report, True


CANDIDATES = 2
"""Searched schedules measured per preset; a measured latency may turn the first one away."""


def trials_to_measure(results: RunResults) -> list[int]:
    """Trials whose latency is measured at the end.

    Full depth, every preset with its best candidates, and the front by the table's latencies.
    """
    chosen = {entry.trial for entry in results.entries if entry.name is not None}
    for preset in results.hand_made():
        best = candidates_for(preset, results.searched())[:CANDIDATES]
        chosen |= {entry.trial for entry in best}
    points = [(entry.fid, entry.latency.predicted_ms) for entry in results.entries]
    return sorted(chosen | {results.entries[i].trial for i in non_dominated(points)})


def measure_finally(
    bench: Workbench, report: LatencyReport, results: RunResults, folder: RunFolder
) -> LatencyReport:
    """Measure what the front and its baselines cost, and keep it beside the predictions."""
    numbers = trials_to_measure(results)
    chosen = [entry for entry in results.entries if entry.trial in numbers]
    schedules = {entry.trial: entry.schedule for entry in chosen}
    names = {n: BASELINE if bench.is_full_depth(s) else str(n) for n, s in schedules.items()}
    measured = measure_schedules(
        bench.settings,
        timed_network(bench, folder),
        bench.solver,
        {names[n]: s for n, s in schedules.items()},
    )
    report = replace(
        report,
        full_measured_ms=measured[BASELINE].median_ms,
        measured_after=len(results.entries),
        measured={
            number: MeasuredLatency(
                latency_ms=measured[name].median_ms,
                half_width_ms=measured[name].half_width_ms,
                acceleration=measured[name].acceleration,
                repeats=measured[name].repeats,
            )
            for number, name in names.items()
        },
    )
    report.save(folder)
    return report


def accuracy_line(results: RunResults) -> str:
    """How far the predicted latencies of a run were off.

    A change of the machine's speed that all schedules share changes no order, so it is stated
    by itself.
    """
    drift = results.drift
    off = [
        abs(drift * entry.latency.predicted_ms / entry.latency.ms - 1.0)
        for entry in results.entries
        if entry.latency.source == "measured"
    ]
    return (
        f"predicted latencies: {statistics.fmean(off):.1%} off on average over {len(off)} "
        f"schedules; the machine's speed has changed by {drift - 1:+.1%} since the table"
    )
