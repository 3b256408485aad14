"""The stages of a run: profile, trials, latencies, confirmation, a raised rung, the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.planning.seeds import seed_schedules
from schedsearch.proposers.registry import build_sampler
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.search import costs as stages
from schedsearch.search.confirmation import Confirmation
from schedsearch.search.control_stage import ControlStage
from schedsearch.search.costs import duration
from schedsearch.search.dashboard_notes import TrialPublisher
from schedsearch.search.front_files import write_front
from schedsearch.search.journal import Journal
from schedsearch.search.latency_stage import accuracy_lines, measure_finally, trials_on_the_fronts
from schedsearch.search.metering import BudgetSpentError, Metered, Reserve
from schedsearch.search.profile_stage import ProfileStage
from schedsearch.search.raised_rung import RaisedRung
from schedsearch.search.raising import misleading, raised_for, rung_agreement
from schedsearch.search.reserve import reserve_for_one_more, seconds_to_the_end
from schedsearch.search.results import RunResults
from schedsearch.search.storage import open_artifacts, open_storage, open_study
from schedsearch.search.study import ScheduleStudy

if TYPE_CHECKING:
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.search.metering import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.search.seam import Observer, Runner
    from schedsearch.statistics.rank_agreement import RankAgreement


class RunStages:
    """The stages of a run over what they share.

    Args:
        ready: What the checks made.
        folder: The run folder, locked.
        meter: Counts what the stages take.
        observer: Is told what happens.
    """

    def __init__(
        self, ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer
    ) -> None:
        settings = ready.settings
        self.ready, self.folder, self.observer = ready, folder, observer
        self._meter = meter
        self._confirmations = Journal(folder.confirmation_file, ConfirmRecord.from_json)
        self._latency = ready.latency
        self._raised = RaisedRung.load(folder)
        self.no_room = False
        """Whether trials, or a raised rung, were left out for want of budget."""
        study = open_study(open_storage(folder, settings.search.storage), settings.name)
        self.publisher = TrialPublisher(study, open_artifacts(folder), folder)
        self.study = ScheduleStudy(
            study,
            settings=settings,
            settings_text=ready.settings_text,
            folder=folder,
            journal=Journal(folder.results_file, TrialRecord.from_json),
            warm_starts=ready.warm_starts,
            times=ready.bench.solver.times,
            predict_ms=ready.predict_ms,
            publisher=self.publisher,
            observer=observer,
            on_result=self.write_front,
        )

    def results(self, raised: RaisedRung | None = None) -> RunResults:
        """Everything measured so far; with a rung as if it had been raised."""
        return RunResults(
            self.ready.settings,
            self.study.finished.records,
            self._latency,
            self._confirmations.read(),
            raised or self._raised,
        )

    def has_work(self) -> bool:
        """Whether anything is left to do; a finished run is only shown again."""
        return (
            self.study.wants_jobs
            or self._latency_is_old()
            or self._confirmation().num_jobs > 0
            or self._misleading() is not None
        )

    def run(self, runner: Runner) -> None:
        """All stages; the front is written also when one of them is interrupted."""
        try:
            if self.study.wants_jobs:
                table = self._profile(runner)
                self._sample_control(runner)
                if not self._meter.spent:
                    self._run_trials(runner, table)
            if self.results().entries and not self._meter.spent:
                self._measure()
                self._confirm(runner)
                self._raise_rung(runner)
        except BudgetSpentError as stop:
            self.observer.warning(str(stop))
        finally:
            self.write_front()
            self._meter.close()

    def _work(self, runner: Runner, stage: str, source: Metered) -> None:
        """Let the workers do all jobs of a source, within the budget."""
        with self._meter.stage(stage):
            runner.run(source, check=self._meter.check)

    def _profile(self, runner: Runner) -> ErrorTable | None:
        """The error table of a shared fine-tune, kept or new; None without ``profile``."""
        stage = ProfileStage(
            self.ready.settings, self.ready.settings_text, self.folder, self.observer
        )
        if stage.num_jobs:
            if self.study.proposals.trials():
                stage.refuse_other_weights()
            stage.announce()
            self._work(runner, stages.PROFILE, Metered(stage, self._meter))
        return None if self._meter.spent else stage.error_table()

    def _sample_control(self, runner: Runner) -> None:
        """The images that correct the FIDs of trials, where these are to be corrected."""
        stage = ControlStage(
            self.ready.bench, self.ready.settings_text, self.folder, self.observer
        )
        if stage.num_jobs and not self._meter.spent:
            stage.announce()
            self._work(runner, stages.CONTROL, Metered(stage, self._meter))

    def _run_trials(self, runner: Runner, table: ErrorTable | None) -> None:
        """Fine-tune and measure schedules until there are enough."""
        settings, ready = self.ready.settings, self.ready
        space = settings.space.build()
        self.study.proposals.use_sampler(
            build_sampler(
                settings.search.sampler,
                space,
                settings.search.seed,
                ready.visits,
                fixed_blocks=ready.fixed_blocks,
                num_asked=len(self.study.proposals.trials()),
                error_table=table,
            )
        )
        seeds = []
        if table is not None and settings.search.dp_seeds:
            known = [warm.schedule for warm in ready.warm_starts]
            count = settings.search.dp_seeds
            seeds = seed_schedules(table, space, ready.visits, count, known)
        self.study.enqueue_first(seeds)
        self.observer.stage("searching", total=settings.search.n_trials)
        self.observer.resumed(self.study.finished.records)
        trials = Metered(self.study, self._meter, self._reserve)
        self._work(runner, stages.TRIALS, trials)
        if not self.study.wants_jobs or self.study.exhausted or self.study.all_tried:
            return
        if self.study.gave_up:
            self.observer.warning(
                "stopped before search.n_trials: as many schedules failed as were wanted. Mend "
                "the cause (see log.txt under trials/) and run the same command again"
            )
        elif trials.denied and not self._meter.spent:
            self.no_room = True
            self.observer.message(
                f"no further trials: {self._meter.used()} of search.budget used, and the rest of "
                f"the run needs roughly {duration(self._to_the_end().wall_seconds)} more"
            )

    def _reserve(self) -> Reserve:
        """What must be left of the budget for a further trial to start."""
        if not self._meter.is_limited:
            return Reserve()
        results = self.results()
        return reserve_for_one_more(results, self._confirmation().jobs_left(results))

    def _to_the_end(self, raised: RaisedRung | None = None) -> Reserve:
        """What the stages after the trials will take, without or with a raised rung."""
        results = self.results(raised)
        return seconds_to_the_end(results, self._confirmation().jobs_left(results))

    def _measure(self) -> None:
        """Measure the latencies that the front will show, with all workers idle."""
        if not self._latency_is_old():
            return  # a new measurement could change the rivals, and start a new confirmation
        self.observer.stage("measuring the front's latency, workers idle")
        with self._meter.driver_stage(stages.FINAL_LATENCY):
            self._latency = measure_finally(
                self.ready.bench, self._latency, self.results(), self.folder
            )
        for line in accuracy_lines(self.results(), self.ready.table):
            self.observer.message(line)

    def _latency_is_old(self) -> bool:
        """Whether there are new trials, or a raised rung put others on the front."""
        results = self.results()
        if self._latency.measured_after != len(results.entries):
            return True
        front = trials_on_the_fronts(results) if results.raised is not None else []
        return any(trial not in self._latency.measured for trial in front)

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
            self._work(runner, stages.CONFIRMATION, Metered(confirmation, self._meter))

    def _misleading(self) -> RankAgreement | None:
        """What says that the search's FIDs mislead, unless the rung was raised for it already."""
        if self._raised is not None:
            return None
        agreement = rung_agreement(self.results())
        return agreement if agreement is not None and agreement.lies else None

    def _raise_rung(self, runner: Runner) -> None:
        """Where the search's FIDs mislead, measure all trials as the front was confirmed."""
        if self._meter.spent:
            return
        if (agreement := self._misleading()) is not None:
            raised = raised_for(agreement, self.ready.settings.evaluation.confirm_steps)
            needed = self._to_the_end(raised)
            if not self._meter.allows(needed):
                self.no_room = True
                self.observer.warning(
                    f"{misleading(agreement)} To measure all trials anew would take roughly "
                    f"{duration(needed.wall_seconds)}, which search.budget has no room for"
                )
                return
            raised.save(self.folder)
            self._raised = raised
            self.observer.warning(f"{misleading(agreement)} {raised.consequence}")
            self._confirm(runner)
        if self._raised is not None and not self._meter.spent:
            self._measure()

    def write_front(self) -> None:
        """Replace ``front.yaml`` and ``front.csv``."""
        write_front(self.results().front(), self.folder)
