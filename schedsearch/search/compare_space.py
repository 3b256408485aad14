"""A whole comparison: networks, rows, latencies, and what the dashboard shows of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.evaluation.latency import latency_protocol
from schedsearch.evaluation.method_latency import TimedMethod, measure_methods
from schedsearch.exceptions import ConfigError, ExitCode
from schedsearch.files.problems import nearest_or_list
from schedsearch.methods.loading import load_method
from schedsearch.runs import costs as stages
from schedsearch.runs.journal import Journal
from schedsearch.runs.method_results import MethodResults
from schedsearch.runs.rival_records import RivalRecord
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.dashboard import MethodsNote, TrialPublisher
from schedsearch.search.estimates import estimate_comparison
from schedsearch.search.meter import Metered
from schedsearch.search.runners import build_runner
from schedsearch.search.stages.rivals import (
    NetworkQueue,
    RowQueue,
    network_jobs,
    rivals_in,
    row_jobs,
)
from schedsearch.search.start import opened_run
from schedsearch.search.study.storage import (
    explaining_failures,
    open_artifacts,
    open_storage,
    open_study,
)
from schedsearch.settings.rows import Row, rows_of
from schedsearch.workers.rivals.row_files import METHOD
from schedsearch.workers.rivals.row_record import solver_of

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.meter import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer, Runner
    from schedsearch.settings import StudySettings
    from schedsearch.workers.jobs import RowJob
    from schedsearch.workers.workbench import Workbench

GROUP = 8
"""Rows whose latency is measured interleaved, with full depth among them."""

Draw = Callable[[MethodResults, Path], None]
"""Draws all methods into a PNG; given by the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOutcome:
    """How a comparison ended."""

    results: MethodResults
    num_failed: int

    @property
    def exit_code(self) -> ExitCode:
        """What the command line returns."""
        return ExitCode.SOME_FAILED if self.num_failed else ExitCode.DONE


def compare_space(
    settings: StudySettings,
    folder: RunFolder,
    observer: Observer,
    *,
    only: Sequence[str] = (),
    address: str | None = None,
    draw: Draw | None = None,
    methods_note: MethodsNote | None = None,
) -> CompareOutcome:
    """Train, calibrate and measure the rivals of a space, or resume doing so.

    Args:
        settings: The search space.
        folder: The run folder, new or of a search.
        observer: Is told what happens.
        only: Entries or rows to measure; empty means all. Full depth is always measured.
        address: A Ray cluster to join.
        draw: Draws the picture; None leaves it out.
        methods_note: Writes the table for the dashboard; None leaves it out.

    Raises:
        ConfigError: If an entry is unknown, the folder belongs to another space, or a check
            fails.
        StorageError: If another driver is at work, or the disk fails.
        KeyboardInterrupt: If the user stops it; the same command goes on.
    """
    # NOTE: without twins, because this is what measures them.
    with opened_run(settings, folder, observer, with_twins=False) as (ready, meter):
        rows = wanted_rows(ready, only)
        journal = Journal(folder.rivals_file, RivalRecord.from_json)
        journal.repair()
        num_failed = 0
        try:
            jobs = row_jobs(rows, settings, ready.settings_text, str(folder.root), journal.read())
            if jobs:
                with build_runner(settings, folder, address) as runner:
                    num_failed = _measure_rows(ready, jobs, journal, runner, meter, observer)
            _measure_latencies(ready, folder, meter, observer)
        finally:
            meter.close()
        results = MethodResults.load(folder)
        _publish(settings, folder, results, draw, methods_note)
        return CompareOutcome(results=results, num_failed=num_failed)


def _measure_rows(
    ready: Preflight,
    jobs: Sequence[RowJob],
    journal: Journal[RivalRecord],
    runner: Runner,
    meter: Meter,
    observer: Observer,
) -> int:
    """Train the networks that rows need, then measure these; return how many rows failed."""
    settings = ready.settings
    rows, retries = [job.row for job in jobs], settings.search.max_retries
    makers = network_jobs(rows, settings, ready.settings_text, jobs[0].run_dir)
    networks = NetworkQueue(makers, retries, observer)
    queue = RowQueue(
        jobs, settings=settings, journal=journal, max_retries=retries, observer=observer
    )
    takes = estimate_comparison(ready, rows)
    with meter.stage(stages.COMPARISON):
        for source, seconds in ((networks, takes.networks), (queue, takes.rows)):
            source.announce(seconds)
            runner.run(Metered(source, meter, stages.COMPARISON), check=meter.tick)
    return queue.num_failed


def wanted_rows(ready: Preflight, only: Sequence[str]) -> list[Row]:
    """The rows of a space, or those that were asked for.

    Raises:
        ConfigError: If a name is neither an entry nor a row.
    """
    presets = {w.label: w.schedule.depths for w in ready.warm_starts if w.label != FULL}
    rows = rows_of(rivals_in(ready.settings), presets)
    known = list(dict.fromkeys([*(row.entry for row in rows), *(row.name for row in rows)]))
    for name in only:
        if name not in known:
            raise ConfigError(
                f"--only names an entry of rivals or a row, got {name!r}; "
                f"{nearest_or_list(name, known)}."
            )
    return [row for row in rows if not only or {row.entry, row.name} & {FULL, *only}]


def _measure_latencies(
    ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer
) -> None:
    """Time all rows that have no latency yet, with all workers idle."""
    results, settings = MethodResults.load(folder), ready.settings
    bench = ready.bench
    protocol = latency_protocol(
        bench.backbone, settings.solver, settings.evaluation, settings.resources.cpus_per_trial
    )
    kept = results.latency_data(protocol.to_dict())
    missing = [
        entry
        for entry in results.entries
        if kept["digests"].get(entry.name) != entry.first.config_sha256
    ]
    if not missing:
        return
    observer.stage("measuring the latency of the methods, workers idle", total=len(missing))
    # Rows of one network are timed together, so that few networks are in memory.
    by_network: dict[str, list[str]] = defaultdict(list)
    for entry in missing:
        file = folder.method(entry.name) / METHOD
        by_network[str(_identity(file))].append(entry.name)
    groups = [
        names[i : i + GROUP] for names in by_network.values() for i in range(0, len(names), GROUP)
    ]
    digests = {entry.name: entry.first.config_sha256 for entry in missing}
    for names in groups:
        with meter.driver_stage(stages.COMPARISON):
            measured = measure_methods(
                _timed(bench, {name: folder.method(name) / METHOD for name in names}),
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
        folder.write(folder.method_latency_file, json.dumps(kept, indent=1) + "\n")


def _timed(bench: Workbench, files: Mapping[str, Path]) -> dict[str, TimedMethod]:
    """Methods of one network, ready to be timed."""
    loaded = {name: load_method(path) for name, path in files.items()}
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


def _identity(method_file: Path) -> object:
    """What two rows on the same network share."""
    loaded = load_method(method_file)
    if not loaded.changes_network or loaded.weights is None:
        return None
    return loaded.weights.stat().st_ino, json.dumps(dict(loaded.file.network), sort_keys=True)


def _publish(
    settings: StudySettings,
    folder: RunFolder,
    results: MethodResults,
    draw: Draw | None,
    methods_note: MethodsNote | None,
) -> None:
    """Draw the picture, and show the methods in the dashboard.

    NOTE: never as trials. One trial without parameters empties the samplers' joint space.
    """
    if draw is not None and results.entries:
        draw(results, folder.methods_png)
    folder.write(folder.methods_csv, results.as_csv())
    with explaining_failures(settings.name):
        study = open_study(open_storage(folder, settings.search.storage), settings.name)
        publisher = TrialPublisher(study, open_artifacts(folder), folder)
        publisher.publish_study(results.run, {"rivals": results.as_rows()}, methods_note)
