"""A whole comparison: networks, rows, latencies, and what the dashboard shows of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.exceptions import ConfigError, ExitCode
from schedsearch.files.problems import ended, nearest_or_list
from schedsearch.runs.methods.journals import MethodJournals
from schedsearch.runs.methods.results import MethodResults
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.dashboard import MethodsNote, TrialPublisher
from schedsearch.search.method_rows import all_rows, measure_latencies, measure_rows
from schedsearch.search.runners import build_runner
from schedsearch.search.stages.rivals import row_jobs, rows_there
from schedsearch.search.start import opened_run
from schedsearch.search.study.owner import open_own_study
from schedsearch.search.study.storage import explaining_failures, open_artifacts
from schedsearch.settings.rows import Row

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings

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
    workers = build_runner(settings, folder, address)
    # NOTE: without twins, because this is what measures them.
    with opened_run(settings, folder, observer, with_twins=False) as (ready, meter):
        rows = wanted_rows(ready, only)
        MethodJournals(folder, settings).repair()
        num_failed = 0
        try:
            done = rows_there(folder, settings)
            jobs = row_jobs(rows, settings, ready.settings_text, str(folder.root), done)
            if jobs:
                with workers as runner:
                    num_failed = measure_rows(ready, jobs, folder, runner, meter, observer)
            measure_latencies(ready, folder, meter, observer)
        finally:
            meter.close()
        results = MethodResults.load(folder)
        _publish(settings, folder, results, draw, methods_note)
        return CompareOutcome(results=results, num_failed=num_failed)


def wanted_rows(ready: Preflight, only: Sequence[str]) -> list[Row]:
    """The rows of a space, or those that were asked for.

    Raises:
        ConfigError: If a name is neither an entry nor a row.
    """
    rows = all_rows(ready)
    known = list(dict.fromkeys([*(row.entry for row in rows), *(row.name for row in rows)]))
    for name in only:
        if name not in known:
            raise ConfigError(
                f"--only names an entry of rivals or a row, got {name!r}; "
                f"{ended(nearest_or_list(name, known))}"
            )
    return [row for row in rows if not only or {row.entry, row.name} & {FULL, *only}]


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
        study = open_own_study(folder, settings)
        publisher = TrialPublisher(study, open_artifacts(folder), folder)
        publisher.publish_study(results.run, {"rivals": results.as_rows()}, methods_note)
