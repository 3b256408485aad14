"""A whole run, from the checks to the front, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.exceptions import ExitCode
from schedsearch.runs.costs import Costs
from schedsearch.runs.results import RunResults
from schedsearch.search.dashboard import MethodsNote, study_attributes
from schedsearch.search.run_stages import RunStages
from schedsearch.search.runners import build_runner
from schedsearch.search.start import opened_run
from schedsearch.search.study.storage import explaining_failures

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings

PlotFront = Callable[[RunResults, Path], None]
"""Draws the front into a PNG; the command line gives it, since ``report`` is above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended."""

    results: RunResults
    costs: Costs
    num_failed: int
    exhausted: bool
    """Whether the space held no more schedules to try."""
    out_of_budget: bool = False
    """Whether ``search.budget`` left trials undone."""

    @property
    def exit_code(self) -> ExitCode:
        """What the command line returns."""
        if self.out_of_budget:
            return ExitCode.TIME_UP
        if not self.results.entries:
            return ExitCode.NO_RESULT
        return ExitCode.SOME_FAILED if self.num_failed else ExitCode.DONE


def run_search(
    settings: StudySettings,
    folder: RunFolder,
    observer: Observer,
    *,
    address: str | None = None,
    plot_front: PlotFront | None = None,
    methods_note: MethodsNote | None = None,
) -> RunOutcome:
    """Run a search, or resume one to ``search.n_trials`` or to the end of ``search.budget``.

    Args:
        settings: The search space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.
        address: A Ray cluster to join.
        plot_front: Draws ``front.png``; None leaves the picture out.
        methods_note: Writes a comparison in the same folder for the dashboard.

    Raises:
        ConfigError: If the folder belongs to another search space, or a check fails.
        StorageError: If another driver is at work, or the disk fails.
        NoResultError: If the profile fails, which trials need.
        KeyboardInterrupt: If the user stops the run; the same command resumes it.
    """
    runner = build_runner(settings, folder, address)
    with opened_run(settings, folder, observer) as (ready, meter):
        with explaining_failures(settings.name):
            run = RunStages.open(ready, folder, meter, observer)
            costs = Costs.load(folder)
            has_work = run.has_work()
            if has_work:
                with runner:
                    run.run(runner)
            if has_work or not _is_published(run, plot_front):
                _publish(run, ready, plot_front, methods_note)
                meter.save()
                costs = meter.costs
        return RunOutcome(
            results=run.results(),
            costs=costs,
            num_failed=run.study.finished.num_failed,
            exhausted=run.study.exhausted,
            out_of_budget=meter.spent and run.study.may_go_on,
        )


def _is_published(run: RunStages, plot_front: PlotFront | None) -> bool:
    """Whether the picture of this front is there; a kill may have come before it."""
    if plot_front is None or not run.results().entries:
        return True
    picture, front = run.folder.front_png, run.folder.front_yaml
    if not picture.exists():
        return False
    return not front.exists() or picture.stat().st_mtime_ns >= front.stat().st_mtime_ns


def _publish(
    run: RunStages,
    ready: Preflight,
    plot_front: PlotFront | None,
    methods_note: MethodsNote | None,
) -> None:
    """Draw the front, and show the study in the dashboard."""
    results = run.results()
    if plot_front is not None and results.entries:
        plot_front(results, run.folder.front_png)
    attributes = study_attributes(results, ready.latency.table)
    run.publisher.publish_study(results, attributes, methods_note)
