"""The rows of a comparison: networks, calibrations, quality and latencies."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from schedsearch.evaluation.latency_protocol import LatencyProtocol, study_protocol
from schedsearch.evaluation.method_latency import TimedMethod, measure_methods
from schedsearch.methods.loading import LoadedMethod, load_method
from schedsearch.protocols import StagedBackbone
from schedsearch.runs import costs as stages
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.methods.latencies import write_latencies
from schedsearch.runs.methods.results import MethodResults
from schedsearch.search.estimates import estimate_comparison
from schedsearch.search.meter import Metered
from schedsearch.search.stages.plans import (
    CalibratedRows,
    PlanQueue,
    plan_jobs,
    rows_without_training,
)
from schedsearch.search.stages.rivals import (
    NetworkQueue,
    RowQueue,
    network_jobs,
    rivals_in,
    row_jobs,
    rows_there,
)
from schedsearch.settings.rows import FULL, Row, rows_of
from schedsearch.workers.rivals.row_files import METHOD
from schedsearch.workers.rivals.row_record import solver_of

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.search.meter import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer, Runner
    from schedsearch.workers.jobs import RowJob
    from schedsearch.workers.workbench import Workbench

GROUP = 8
"""Rows whose latency is measured interleaved, with full depth among them."""


def all_rows(ready: Preflight) -> list[Row]:
    """All rows of a space: full depth, presets, plans, and every entry of ``rivals``."""
    presets = {w.label: w.schedule.depths for w in ready.warm_starts if w.label != FULL}
    return rows_of(rivals_in(ready.settings), presets)


def measure_untrained(
    ready: Preflight, folder: RunFolder, runner: Runner, meter: Meter, observer: Observer
) -> None:
    """Measure plans and fewer solver steps, which a fine-tune has to beat.

    A plan without a result is a warning; the search does not need it.
    """
    if not is_untrained_left(ready, folder):
        return
    if jobs := _untrained_jobs(ready, folder):
        failed = measure_rows(ready, jobs, folder, runner, meter, observer)
        if failed:
            observer.warning(
                f"{failed} of the plans have no result; the search goes on without them"
            )
    measure_latencies(ready, folder, meter, observer)


def is_untrained_left(ready: Preflight, folder: RunFolder) -> bool:
    """Whether rows without training, or their latencies, are not measured yet."""
    if not isinstance(ready.bench.backbone, StagedBackbone) or ready.settings.plan is None:
        return False
    protocol = study_protocol(ready.bench.backbone, ready.settings)
    return bool(_untrained_jobs(ready, folder) or _without_latency(folder, protocol)[1])


def _untrained_jobs(ready: Preflight, folder: RunFolder) -> list[RowJob]:
    return row_jobs(
        rows_without_training(ready.settings),
        ready.settings,
        ready.settings_text,
        str(folder.root),
        rows_there(folder, ready.settings),
    )


def measure_rows(
    ready: Preflight,
    jobs: Sequence[RowJob],
    folder: RunFolder,
    runner: Runner,
    meter: Meter,
    observer: Observer,
) -> int:
    """Train the networks that rows need, then measure these; return how many rows failed."""
    settings = ready.settings
    rows, retries = [job.row for job in jobs], settings.search.max_retries
    makers = network_jobs(rows, settings, ready.settings_text, jobs[0].run_dir)
    networks = NetworkQueue(makers, retries, observer)
    plans = PlanQueue(plan_jobs(rows, ready, folder), retries, observer)
    queue = RowQueue(
        jobs, settings=settings, folder=folder, max_retries=retries, observer=observer
    )
    takes = estimate_comparison(ready, rows)
    with meter.stage(stages.COMPARISON):
        if networks.num_jobs:
            networks.announce(takes.networks)
            runner.run(Metered(networks, meter, stages.COMPARISON), check=meter.tick)
        both = CalibratedRows(plans, queue)
        observer.stage(
            "calibrating and measuring the methods",
            total=plans.num_jobs + queue.num_jobs,
            seconds=takes.plans / settings.resources.num_workers + takes.rows,
        )
        runner.run(Metered(both, meter, stages.COMPARISON), check=meter.tick)
    return queue.num_failed


def measure_latencies(
    ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer
) -> None:
    """Time all rows that have no latency yet, with all workers idle."""
    settings, bench = ready.settings, ready.bench
    protocol = study_protocol(bench.backbone, settings)
    kept, missing = _without_latency(folder, protocol)
    if not missing:
        return
    observer.stage("measuring the latency of the methods, workers idle", total=len(missing))
    # Rows of one network are timed together, so that few networks are in memory.
    by_network: dict[str, list[str]] = defaultdict(list)
    for entry in missing:
        by_network[str(_identity(_own_method(folder, entry.name)))].append(entry.name)
    groups = [
        names[i : i + GROUP] for names in by_network.values() for i in range(0, len(names), GROUP)
    ]
    digests = {entry.name: entry.first.config_sha256 for entry in missing}
    for names in groups:
        with meter.driver_stage(stages.COMPARISON):
            measured = measure_methods(
                _timed(bench, {name: _own_method(folder, name) for name in names}),
                bench.backbone,
                bench.solver,
                protocol,
                repeats=settings.evaluation.latency_repeats,
                seed=settings.search.seed,
            )
        for name, latency in measured.items():
            kept["rows"][name] = asdict(latency)
            kept["digests"][name] = digests[name]
            observer.advanced()
        write_latencies(folder, kept)


def _without_latency(
    folder: RunFolder, protocol: LatencyProtocol
) -> tuple[dict[str, Any], list[MethodEntry]]:
    """Latencies that are kept, and the rows that have none."""
    results = MethodResults.load(folder)
    kept = results.latency_data(protocol.to_dict())
    missing = [
        entry
        for entry in results.entries
        if kept["digests"].get(entry.name) != entry.first.config_sha256
        if (folder.method(entry.name) / METHOD).is_file()  # a row without it is measured again
    ]
    return kept, missing


def _own_method(folder: RunFolder, name: str) -> LoadedMethod:
    """The method of a row in its run folder."""
    path = folder.method(name) / METHOD
    return load_method(path, place_in(folder, path))


def _timed(bench: Workbench, loaded: Mapping[str, LoadedMethod]) -> dict[str, TimedMethod]:
    """Methods of one network, ready to be timed."""
    first = next(iter(loaded.values()))
    net = first.network(bench.fresh_backbone()) if first.changes_network else bench.backbone
    num_batches = bench.settings.evaluation.latency_batches
    return {
        name: TimedMethod(
            net=net,
            method=method,
            solver=solver_of(bench, method.file),
            num_batches=num_batches if method.is_dynamic else 1,
        )
        for name, method in loaded.items()
    }


def _identity(loaded: LoadedMethod) -> object:
    """What two rows on the same network share."""
    if not loaded.changes_network or loaded.weights is None:
        return None
    return loaded.weights.stat().st_ino, json.dumps(dict(loaded.file.network), sort_keys=True)
