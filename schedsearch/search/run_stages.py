"""The stages of a run: profile, trials, latencies, confirmation, the front."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from schedsearch.planning.seeds import seed_schedules
from schedsearch.proposers.registry import build_sampler
from schedsearch.runs import costs as stages
from schedsearch.runs.checks.journals import confirmation_journal, trial_journal
from schedsearch.runs.front_files import write_front
from schedsearch.runs.methods.journals import MethodJournals
from schedsearch.runs.results import RunResults
from schedsearch.runs.starts.files import StartFiles
from schedsearch.search.dashboard import TrialPublisher
from schedsearch.search.estimates import estimate_run
from schedsearch.search.meter import BudgetSpentError, Metered, Throttled
from schedsearch.search.method_rows import is_untrained_left, measure_untrained
from schedsearch.search.stages.confirmation import (
    Confirmation,
    confirmation_jobs,
    drop_recorded_weights,
)
from schedsearch.search.stages.latency import accuracy_line, measure_finally
from schedsearch.search.stages.profile import ProfileStage
from schedsearch.search.stages.start import StartStage, with_decided_start
from schedsearch.search.study.owner import open_own_study
from schedsearch.search.study.storage import open_artifacts
from schedsearch.search.study.study import ScheduleStudy

if TYPE_CHECKING:
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.meter import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import JobSource, Observer, Runner
    from schedsearch.workers.jobs import Job


class RunStages:
    """The stages of a run over what they share; see :meth:`open`.

    Args:
        ready: What the checks made.
        folder: The run folder, locked.
        meter: Counts what the stages take.
        observer: Is told what happens.
        publisher: Shows the study in the dashboard.
    """

    def __init__(
        self,
        ready: Preflight,
        folder: RunFolder,
        meter: Meter,
        observer: Observer,
        publisher: TrialPublisher,
    ) -> None:
        settings = ready.settings
        self.ready, self.folder, self.observer = ready, folder, observer
        self._meter = meter
        self._estimate = estimate_run(ready)
        self._confirmations = confirmation_journal(folder, settings)
        self._latency = ready.latency
        self.publisher = publisher
        self.study = ScheduleStudy(
            publisher.study,
            settings=settings,
            settings_text=ready.settings_text,
            folder=folder,
            journal=trial_journal(folder, settings),
            warm_starts=ready.warm_starts,
            times=ready.bench.solver.times,
            # NOTE: the table is measured again where the check of a start drops adapters.
            predict_ms=lambda schedule: self.ready.predict_ms(schedule),
            latency_device=ready.table.protocol.device,
            publisher=self.publisher,
            observer=observer,
            on_result=Throttled(self.write_front),
        )

    @classmethod
    def open(cls, ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer) -> Self:
        """Open the study of a run and repair what a crash left.

        Raises:
            StorageError: If the study or a record cannot be read.
        """
        settings = ready.settings
        study = open_own_study(folder, settings)
        publisher = TrialPublisher(study, open_artifacts(folder), folder)
        stages = cls(ready, folder, meter, observer, publisher)
        stages.study.prepare()
        stages._confirmations.repair()
        MethodJournals(folder, settings).repair()
        return stages

    def results(self) -> RunResults:
        """Everything measured so far."""
        return RunResults(
            self.ready.settings,
            self.study.finished.records,
            self._latency,
            self._confirmations.read(),
            StartFiles(self.folder, self.ready.settings).check(),
        )

    def has_work(self) -> bool:
        """Whether anything is left that may be done; a finished run is only shown again."""
        trials = self.study.wants_jobs and not self._meter.spent
        results = self.results()
        ending = self._latency_is_old(results) or self._jobs_to_confirm(results)
        untrained = is_untrained_left(self.ready, self.folder)
        return trials or untrained or bool(results.entries and ending)

    def run(self, runner: Runner) -> None:
        """All stages; the front is written also when one of them is interrupted."""
        try:
            measure_untrained(self.ready, self.folder, runner, self._meter, self.observer)
            self._search(runner)
            if self.results().entries:
                self._measure()
                self._confirm(runner)
        finally:
            self.write_front()
            self._meter.close()

    def write_front(self) -> None:
        """Replace ``front.yaml`` and ``front.csv``."""
        write_front(self.results().front(), self.folder)

    # ---- stages ---------------------------------------------------------------------------

    def _search(self, runner: Runner) -> None:
        """Start, profile and trials, within the budget."""
        if not self.study.wants_jobs or self._meter.spent:
            return
        try:
            self._check_start(runner)
            table = self._profile(runner)
            self._run_trials(runner, table)
        except BudgetSpentError as stop:
            self._meter.abandon_jobs()
            self.observer.warning(str(stop))

    def _check_start(self, runner: Runner) -> None:
        """Decide whether fine-tunes start from adapters, where the space asks for them."""
        stage = StartStage(self.ready, self.folder, self.observer)
        if stage.is_due:
            if self.study.proposals.trials():
                stage.refuse_to_decide_again()
            stage.announce(self._estimate.start)
            self._work(runner, stages.START, stage, check=self._meter.check)
        stage.report()
        ready = with_decided_start(self.ready, self.folder)
        if ready is not self.ready:
            self.ready, self._latency = ready, ready.latency

    def _profile(self, runner: Runner) -> ErrorTable | None:
        """Shared weights and error table, kept or new; None without ``profile``."""
        stage = ProfileStage(
            self.ready.settings, self.ready.settings_text, self.folder, self.observer
        )
        if stage.is_due:
            if self.study.proposals.trials():
                stage.refuse_other_weights()
            stage.announce(self._estimate.profile)
            self._work(runner, stages.PROFILE, stage, check=self._meter.check)
        return stage.error_table()

    def _run_trials(self, runner: Runner, table: ErrorTable | None) -> None:
        """Fine-tune and measure schedules until there are enough."""
        settings, ready = self.ready.settings, self.ready
        space = settings.space.build()
        # Choose the proposer.
        num_asked = len(self.study.proposals.trials())
        self.study.proposals.use_sampler(
            build_sampler(
                settings.search.sampler,
                space,
                settings.search.seed,
                ready.visits,
                fixed_blocks=ready.fixed_blocks,
                num_asked=num_asked,
                error_table=table,
            )
        )
        # Enqueue what is measured first.
        seeds = []
        if table is not None and settings.search.dp_seeds:
            known = [warm.schedule for warm in ready.warm_starts]
            count = settings.search.dp_seeds
            seeds = seed_schedules(table, space, ready.visits, count, known)
        self.study.enqueue_first(seeds)
        # Run the trials.
        missing = 1.0 - self.study.finished.num_complete / settings.search.n_trials
        tunes = settings.recipe.weights == "own" and settings.recipe.num_steps > 0
        self.observer.stage(
            "fine-tuning and measuring schedules" if tunes else "measuring schedules",
            total=settings.search.n_trials,
            seconds=missing * self._estimate.trials / self._estimate.num_workers,
        )
        self.observer.resumed(self.study.finished.records)
        self._work(runner, stages.TRIALS, self.study, check=self._meter.check)
        if self.study.gave_up and self.study.wants_jobs:
            self.observer.warning(
                "stopped before search.n_trials: as many schedules failed as were wanted. Mend "
                "the cause (see log.txt under trials/) and run the same command again"
            )

    def _measure(self) -> None:
        """Measure the latencies that the front will show, with all workers idle."""
        if not self._latency_is_old(self.results()):
            return  # a new measurement could change the opponents, and start a new confirmation
        self.observer.stage(
            "measuring latencies of front and presets, workers idle",
            seconds=self._estimate.latency,
        )
        with self._meter.driver_stage(stages.FINAL_LATENCY):
            self._latency = measure_finally(
                self.ready.bench, self._latency, self.results(), self.folder
            )
        self.observer.message(accuracy_line(self.results()))

    def _confirm(self, runner: Runner) -> None:
        """Measure presets, their opponents and part of the front with held-out seeds."""
        results = self.results()
        jobs = self._jobs_to_confirm(results)
        drop_recorded_weights(results, jobs, self.folder)
        if not jobs:
            return
        confirmation = Confirmation(
            jobs,
            folder=self.folder,
            journal=self._confirmations,
            max_retries=self.ready.settings.search.max_retries,
            observer=self.observer,
        )
        confirmation.announce(self._estimate.confirmation / self._estimate.num_workers)
        self._work(runner, stages.CONFIRMATION, confirmation, check=self._meter.tick)

    def _work(
        self, runner: Runner, stage: str, source: JobSource, *, check: Callable[[], None]
    ) -> None:
        """Let the workers do all jobs of a source."""
        limited = stage == stages.TRIALS
        metered = Metered(source, self._meter, stage, within_budget=limited)
        with self._meter.stage(stage):
            runner.run(metered, check=check)

    def _latency_is_old(self, results: RunResults) -> bool:
        return self._latency.measured_after != len(results.entries)

    def _jobs_to_confirm(self, results: RunResults) -> list[Job]:
        if not self.ready.settings.evaluation.confirm_seeds:
            return []
        return confirmation_jobs(results, self.ready.settings_text, self.folder)
