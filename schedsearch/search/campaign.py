"""A whole run: preflight, profile, trials, measured latencies, confirmation, front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.exceptions import ExitCode
from schedsearch.planning.seeds import seed_schedules
from schedsearch.proposers.registry import build_sampler
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.search import costs as stages
from schedsearch.search.certifying import certify_run
from schedsearch.search.confirmation import Confirmation
from schedsearch.search.costs import Costs
from schedsearch.search.dashboard_notes import TrialPublisher, study_note
from schedsearch.search.front_files import write_front
from schedsearch.search.journal import Journal
from schedsearch.search.latency_stage import deviations, measure_finally
from schedsearch.search.metering import BudgetSpentError, Metered
from schedsearch.search.opening import opened_run
from schedsearch.search.profile_files import load_error_table
from schedsearch.search.profile_stage import ProfileStage
from schedsearch.search.results import RunResults
from schedsearch.search.runners import build_runner
from schedsearch.search.storage import (
    explaining_failures,
    open_artifacts,
    open_storage,
    open_study,
)
from schedsearch.search.study import ScheduleStudy

if TYPE_CHECKING:
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.search.jobs import JobSource, Observer, Runner
    from schedsearch.search.metering import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.settings import StudySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended."""

    results: RunResults
    costs: Costs
    num_failed: int
    exhausted: bool
    """Whether the space held no more schedules to try."""
    out_of_budget: bool = False
    """Whether ``search.budget`` left something undone."""

    @property
    def exit_code(self) -> ExitCode:
        """What the command line returns."""
        if self.out_of_budget:
            return ExitCode.TIME_UP
        if not self.results.entries:
            return ExitCode.NO_RESULT
        return ExitCode.SOME_FAILED if self.num_failed else ExitCode.DONE


PlotFront = Callable[[RunResults, Path, Sequence[tuple[float, float]] | None], None]
"""Draws the front, with the surrogate's bound where there is one; given by the command line,
since pictures belong to ``report``."""


def run_search(
    settings: StudySettings,
    folder: RunFolder,
    observer: Observer,
    *,
    address: str | None = None,
    plot_front: PlotFront | None = None,
) -> RunOutcome:
    """Run a search, or resume one to ``search.n_trials`` or to the end of ``search.budget``.

    Args:
        settings: The search space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.
        address: A Ray cluster to join.
        plot_front: Draws ``front.png``.

    Raises:
        ConfigError: If the folder belongs to another search space, or a check fails.
        StorageError: If another driver is at work, or the disk fails.
        NoResultError: If the shared fine-tune fails, which trials need.
        KeyboardInterrupt: If the user stops the run; the same command resumes it.
    """
    with opened_run(settings, folder, observer) as (ready, meter):
        runner = build_runner(settings, folder, address)
        with explaining_failures(settings.name):
            campaign = _Campaign(ready, folder, meter, observer, plot_front)
            campaign.study.prepare()
            costs = Costs.load(folder)
            if campaign.has_work():
                if not meter.spent:
                    with runner:
                        campaign.run(runner)
                campaign.publish()
                meter.save()
                costs = meter.costs
        return RunOutcome(
            results=campaign.results(),
            costs=costs,
            num_failed=campaign.study.finished.num_failed,
            exhausted=campaign.study.exhausted,
            out_of_budget=meter.spent and campaign.has_work(),
        )


class _Campaign:
    """The stages of a run over what they share."""

    def __init__(
        self,
        ready: Preflight,
        folder: RunFolder,
        meter: Meter,
        observer: Observer,
        plot_front: PlotFront | None,
    ) -> None:
        settings = ready.settings
        self.ready, self.folder, self.observer = ready, folder, observer
        self._meter = meter
        self._plot_front = plot_front
        self._confirmations = Journal(folder.confirmation_file, ConfirmRecord.from_json)
        self._latency = ready.latency
        study = open_study(open_storage(folder, settings.search.storage), settings.name)
        self._publisher = TrialPublisher(study, open_artifacts(folder), folder)
        self.study = ScheduleStudy(
            study,
            settings=settings,
            settings_text=ready.settings_text,
            folder=folder,
            journal=Journal(folder.results_file, TrialRecord.from_json),
            warm_starts=ready.warm_starts,
            times=ready.bench.solver.times,
            predict_ms=ready.predict_ms,
            publisher=self._publisher,
            observer=observer,
            on_result=self.write_front,
        )

    def results(self) -> RunResults:
        """Everything measured so far."""
        return RunResults(
            self.ready.settings,
            self.study.finished.records,
            self._latency,
            self._confirmations.read(),
        )

    def has_work(self) -> bool:
        """Whether anything is left to do; a finished run is only shown again."""
        measured = self._latency.measured_after == len(self.results().entries)
        return self.study.wants_jobs or not measured or self._confirmation().num_jobs > 0

    def run(self, runner: Runner) -> None:
        """All stages; the front is written also when one of them is interrupted."""
        try:
            if self.study.wants_jobs:
                table = self._profile(runner)
                if not self._meter.spent:
                    self._run_trials(runner, table)
            if self.results().entries and not self._meter.spent:
                self._measure()
                self._confirm(runner)
        except BudgetSpentError as stop:
            self.observer.warning(str(stop))
        finally:
            self.write_front()
            self._meter.close()

    def _work(self, runner: Runner, stage: str, source: JobSource) -> None:
        """Let the workers do all jobs of a source, within the budget."""
        with self._meter.stage(stage):
            runner.run(Metered(source, self._meter), check=self._meter.check)

    def _profile(self, runner: Runner) -> ErrorTable | None:
        """The error table of a shared fine-tune, kept or new; None without ``profile``."""
        stage = ProfileStage(
            self.ready.settings, self.ready.settings_text, self.folder, self.observer
        )
        if stage.num_jobs:
            stage.announce()
            self._work(runner, stages.PROFILE, stage)
        return None if self._meter.spent else stage.error_table()

    def _run_trials(self, runner: Runner, table: ErrorTable | None) -> None:
        """Fine-tune and measure schedules until there are enough."""
        settings, ready = self.ready.settings, self.ready
        space = settings.space.build()
        self.study.use_sampler(
            build_sampler(
                settings.search.sampler,
                space,
                settings.search.seed,
                ready.visits,
                fixed_blocks=ready.fixed_blocks,
                num_asked=self.study.num_asked,
                error_table=table,
            )
        )
        seeds = []
        if table is not None and settings.search.dp_seeds:
            seeds = seed_schedules(table, space, ready.visits, settings.search.dp_seeds)
        self.study.enqueue_first(seeds)
        self.observer.stage("searching", total=settings.search.n_trials)
        self.observer.resumed(self.study.finished.records)
        self._work(runner, stages.TRIALS, self.study)
        if self._meter.spent:
            return
        if self.study.wants_jobs and not self.study.exhausted:
            self.observer.warning(
                "stopped before search.n_trials: as many schedules failed as were wanted. Mend "
                "the cause (see log.txt under trials/) and run the same command again"
            )

    def _measure(self) -> None:
        """Measure the latencies that the front will show, with all workers idle."""
        if self._latency.measured_after == len(self.results().entries):
            return  # a new measurement could change the rivals, and start a new confirmation
        self.observer.stage("measuring the front's latency, workers idle")
        with self._meter.driver_stage(stages.FINAL_LATENCY):
            self._latency = measure_finally(
                self.ready.bench, self._latency, self.results(), self.folder
            )
        drift, mean, lines = deviations(self.results())
        self.observer.message(
            f"predicted against measured latency: {mean:.1%} off on average, after a change of "
            f"{drift - 1:+.1%} common to all since the table was measured"
        )
        for line in lines:
            self.observer.message(f"beyond the spread: {line}")

    def _confirmation(self) -> Confirmation:
        return Confirmation(
            self.results,
            settings_text=self.ready.settings_text,
            folder=self.folder,
            journal=self._confirmations,
            observer=self.observer,
        )

    def _confirm(self, runner: Runner) -> None:
        """Measure presets, their rivals and part of the front with fresh seeds."""
        confirmation = self._confirmation()
        if confirmation.num_jobs and not self._meter.spent:
            confirmation.announce()
            self._work(runner, stages.CONFIRMATION, confirmation)

    def write_front(self) -> None:
        """Replace ``front.yaml`` and ``front.csv``."""
        write_front(self.results().front(), self.folder)

    def publish(self) -> None:
        """Certify and draw the front, and show the study in the dashboard."""
        results = self.results()
        table = load_error_table(self.folder, self.ready.settings)
        certificate = certify_run(results, self.ready.visits, table, self.ready.predict_ms)
        if certificate is not None:
            certificate.save(self.folder)
        pictures = []
        if self._plot_front is not None and results.entries:
            bound = None if certificate is None else certificate.bound
            self._plot_front(results, self.folder.front_png, bound)
            pictures.append(self.folder.front_png)
        attributes = {
            "num_schedules": self.ready.settings.space.build().size(),
            "hypervolume": results.hypervolume(),
            "latency_table": dict(self._latency.table),
            "front": [entry.trial for entry in results.front()],
            "certificate": None if certificate is None else certificate.sentence,
        }
        self._publisher.publish_study(study_note(results), attributes, pictures)
