"""Latency in a run: the table before the first trial, the measurements after the last.

Both happen in the driver while no worker is active, so nothing else uses the device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.backbones.checkpoint import fingerprint
from schedsearch.evaluation.latency import BASELINE, latency_protocol, measure_schedules
from schedsearch.evaluation.latency_table import LatencyTable, measure_table
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.pareto import non_dominated
from schedsearch.schedule import ExitSchedule
from schedsearch.search.latency_report import LatencyReport, MeasuredLatency

if TYPE_CHECKING:
    from schedsearch.search.results import RunResults
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.search.workbench import Workbench


def open_table(
    bench: Workbench, folder: RunFolder | None
) -> tuple[LatencyTable, LatencyReport, bool]:
    """The run's latency table: the kept one, or a new one where there is none.

    A kept table serves as long as device and protocol are the same, so that the predicted
    latencies of all trials of a run compare.

    Returns:
        The table, the report that holds it, and whether it was measured now.

    Raises:
        StorageError: If the kept one is damaged.
        ConfigError: If the pretrained weights are not those that the run started from.
    """
    settings, net = bench.settings, bench.backbone
    protocol = latency_protocol(
        net, settings.solver, settings.evaluation, settings.resources.cpus_per_trial
    )
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
        if table.protocol == protocol:
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
        full_ms=table.predict(full, bench.solver.times),
        visits=bench.visits,
        weights=weights,
    )
    if folder is not None:
        report.save(folder)
    return table, report, True


def trials_on_the_fronts(results: RunResults) -> list[int]:
    """Trials on the front of all schedules, or of the searched ones alone.

    By the table's latencies, since only these are there for every trial.
    """
    comparable = results.at_one_rung()
    found: list[int] = []
    for entries in (comparable, [entry for entry in comparable if entry.name is None]):
        points = [(entry.fid, entry.predicted_latency_ms) for entry in entries]
        found += [entries[i].trial for i in non_dominated(points)]
    return sorted(set(found))


def trials_to_measure(results: RunResults) -> list[int]:
    """Trials whose latency is measured at the end.

    Full depth, every preset and those that may become its rival, and the fronts.
    """
    chosen = {entry.trial for entry in results.entries if entry.name is not None}
    for preset in results.hand_made():
        chosen |= {entry.trial for entry in results.likely_contenders_for(preset)}
    return sorted(chosen.union(trials_on_the_fronts(results)))


def measure_finally(
    bench: Workbench, report: LatencyReport, results: RunResults, folder: RunFolder
) -> LatencyReport:
    """Measure what the front and its baselines cost, and keep it beside the predictions."""
    full = ExitSchedule.flat(bench.backbone.num_exit_blocks, bench.settings.space.num_intervals)
    numbers = trials_to_measure(results)
    chosen = [entry for entry in results.entries if entry.trial in numbers]
    names = {e.trial: BASELINE if e.depths == full.depths else str(e.trial) for e in chosen}
    schedules = {names[e.trial]: ExitSchedule(e.depths) for e in chosen}
    measured = measure_schedules(bench.settings, bench.backbone, bench.solver, schedules)
    report = replace(
        report,
        full_measured_ms=measured[BASELINE].median_ms,
        measured_after=len(results.entries),
        measured={
            number: MeasuredLatency(
                latency_ms=measured[name].median_ms,
                spread_ms=measured[name].half_width_ms,
                acceleration=measured[name].acceleration,
                repeats=measured[name].repeats,
            )
            for number, name in names.items()
        },
    )
    report.save(folder)
    return report


def accuracy_lines(results: RunResults, table: LatencyTable) -> list[str]:
    """What to say about a run's predicted latencies: a verdict, then those that were far off."""
    drift, mean, lines = deviations(results)
    return [
        f"predicted against measured latency: {mean:.1%} off on average, after a change of "
        f"{drift - 1:+.1%} common to all since the table was measured; residuals of the table's "
        f"fit {table.mean_residual:.1%} on average, {table.max_residual:.1%} at most: "
        f"{table.trust(mean)}",
        *(f"beyond the spread: {line}" for line in lines),
    ]


def deviations(results: RunResults) -> tuple[float, float, list[str]]:
    """How far predictions are off, and a line for each that is off beyond the spread.

    A change of pace common to all changes no order of schedules, so lines are about what is
    left without it.

    Returns:
        The common factor of measured over predicted latency, the mean relative deviation
        without it, and the lines.
    """
    measured = [
        (entry, entry.latency_ms, entry.latency_spread_ms)
        for entry in results.entries
        if entry.latency_source == "measured" and entry.latency_spread_ms is not None
    ]
    if not measured:
        return 1.0, 0.0, []
    drift = results.drift
    relative, lines = [], []
    for entry, ms, spread in measured:
        off = drift * entry.predicted_latency_ms - ms
        relative.append(abs(off) / ms)
        if abs(off) > spread:
            lines.append(
                f"{entry.title}: predicted {drift * entry.predicted_latency_ms:.1f} ms, measured "
                f"{ms:.1f} +- {spread:.1f} ms ({off:+.1f} ms)"
            )
    return drift, sum(relative) / len(relative), lines
