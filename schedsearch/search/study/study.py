"""The one owner of the Optuna study: hands out schedules, validates results, survives crashes.

``results.jsonl`` is the record of a run and the study an index of it. Every step below is
ordered so that a kill -9 between any two lines loses nothing: a retry is enqueued before the
interrupted trial is closed, a result is journalled before it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState as OptunaState

from schedsearch.exceptions import StorageError
from schedsearch.records import TrialRecord
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.study.attempts import Attempts
from schedsearch.search.study.driver_storage import together
from schedsearch.search.study.known import DistinctSchedules, FinishedTrials, Key
from schedsearch.search.study.proposals import Proposals
from schedsearch.search.study.reconcile import reconcile, tell_record
from schedsearch.workers.jobs import DISK_STAGE, Done, Failed, Job, Outcome, TrialJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.journal import Journal
    from schedsearch.schedules.space import SearchSpace
    from schedsearch.search.dashboard import TrialPublisher
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.search.study.warm_starts import WarmStart
    from schedsearch.settings import StudySettings


class ScheduleStudy:
    """Ask-and-tell over one Optuna study, with the promises of a run.

    Schedules are told apart by the depths that the solver visits, so two that differ only
    where the solver never calls the network are one.

    Args:
        study: The Optuna study, with its sampler.
        settings: The resolved search space.
        settings_text: The same as text, which is what workers get.
        folder: The run folder.
        journal: The record of finished trials.
        warm_starts: Schedules to measure first.
        times: Times of the solver's network calls, noise -> data.
        predict_ms: Latency that the table gives a schedule, in ms per batch.
        latency_device: Kind of device that the table is of.
        publisher: Shows trials in the dashboard.
        observer: Is told what happens.
        on_result: Called after every trial that was recorded.
    """

    def __init__(
        self,
        study: optuna.Study,
        *,
        settings: StudySettings,
        settings_text: str,
        folder: RunFolder,
        journal: Journal[TrialRecord],
        warm_starts: Sequence[WarmStart],
        times: Sequence[float],
        predict_ms: Callable[[ExitSchedule], float],
        latency_device: str,
        publisher: TrialPublisher,
        observer: Observer,
        on_result: Callable[[], None],
    ) -> None:
        self._study = study
        self._settings = settings
        self._settings_text = settings_text
        self._folder = folder
        self._journal = journal
        self._warm_starts = list(warm_starts)
        self._predict_ms = predict_ms
        self._latency_device = latency_device
        self._publisher = publisher
        self._observer = observer
        self._on_result = on_result
        self._space: SearchSpace = settings.space.build()
        self.distinct = DistinctSchedules(self._space, times)
        self.finished = FinishedTrials(self.distinct)
        self.proposals = Proposals(
            study, self._space, self.distinct, self.finished, seed=settings.search.seed
        )
        self._attempts = Attempts(settings, folder, self.proposals)
        self._running: dict[Key, optuna.Trial] = {}
        self._failed_now = 0
        self.exhausted = False

    # ---- what is known --------------------------------------------------------------------

    @property
    def wants_jobs(self) -> bool:
        """Whether there are schedules left to measure."""
        return self.finished.num_complete < min(
            self._settings.search.n_trials, self.distinct.size()
        )

    @property
    def may_go_on(self) -> bool:
        """Whether more trials would start if time allowed."""
        return self.wants_jobs and not self.gave_up and not self.exhausted

    @property
    def gave_up(self) -> bool:
        """Whether as many schedules failed as were wanted: a broken trainer must not run on."""
        return self._failed_now >= self._settings.search.n_trials

    def _key(self, schedule: ExitSchedule) -> Key:
        return self.distinct.key(schedule)

    # ---- start ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Bring journal and study into agreement."""
        records = reconcile(
            self._study, self._journal, self._folder, self._settings, self._observer.message
        )
        for record in records:
            self.finished.add(record)

    def enqueue_first(self, seeds: Iterable[ExitSchedule] = ()) -> None:
        """Enqueue the warm starts, and after them schedules that the error table favours."""
        self.proposals.enqueue_first(self._warm_starts, seeds)

    # ---- ask ------------------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """The next schedule to train, or None (see :class:`JobSource`)."""
        wanted = self._settings.search.n_trials
        under_way = self.finished.num_complete + len(self._running)
        if under_way >= wanted or self.gave_up:
            return None
        if under_way >= self.distinct.size():
            self.exhausted = not self._running
            return None
        with together(self._study):
            trial = self.proposals.ask(self._running.keys())
        if trial is None:
            self.exhausted = not self._running
            return None
        attributes = trial.user_attrs
        schedule = self._space.schedule(attributes["depths"])
        self._running[self._key(schedule)] = trial
        job = TrialJob(
            number=trial.number,
            schedule=schedule,
            label=attributes.get("label"),
            origin=attributes.get("origin"),
            settings=self._settings_text,
            run_dir=str(self._folder.root),
            predicted_latency_ms=self._predict_ms(schedule),
            measure_latency=self._settings.resources.gpus_per_trial >= 1,
            latency_device=self._latency_device,
            resume_from=self._attempts.saved_state(attributes.get("retry_of")),
            accumulate=attributes.get("accumulate"),
        )
        self._observer.started(job)
        return job

    # ---- tell -----------------------------------------------------------------------------

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Validate and record how a trial ended.

        A value that is not finite makes the trial FAIL; it never reaches the front. A schedule
        whose worker died runs again, up to ``search.max_retries`` times.
        """
        assert isinstance(job, TrialJob)
        if isinstance(outcome, Done):
            record = outcome.result
            assert isinstance(record, TrialRecord)
            assert record.evaluation is not None
            if (bad := record.evaluation.non_finite()) is None:
                self._tell(record)
                return
            outcome = Failed(
                stage="evaluate",
                reason=f"{bad} is not finite",
                started=record.started,
                seconds=record.seconds,
                worker=record.worker,
            )
        self._fail(job, outcome)

    def _fail(self, job: TrialJob, failure: Failed) -> None:
        if failure.stage == DISK_STAGE:  # the trial is not at fault: stop, and run it again later
            raise StorageError(
                f"Trial {job.number} could not write its files: {failure.reason}. Free space "
                "and run the same command again; finished trials are kept."
            )
        if failure.retry and self._retry(job, failure):
            return
        self._tell(self._attempts.failed_record(job, failure, self._key(job.schedule)))

    def _retry(self, job: TrialJob, failure: Failed) -> bool:
        """Enqueue the schedule again and close the trial as interrupted."""
        key = self._key(job.schedule)
        if not self._attempts.use_retry(key):
            return False
        trial = self._running.pop(key)
        kept, reason = self._attempts.next_attributes(job, failure, trial.user_attrs)
        self.proposals.enqueue(job.schedule, retry_of=job.number, **kept)
        with together(self._study):
            trial.set_user_attr("interrupted", True)
            trial.set_user_attr("reason", reason)
            self._study.tell(trial, state=OptunaState.FAIL)
        self._observer.interrupted(job, reason)
        return True

    def _tell(self, record: TrialRecord) -> None:
        trial = self._running.pop(self._key(record.schedule))
        self._journal.append(record)
        self.finished.add(record)
        if not record.complete:
            self._failed_now += 1
        with together(self._study):
            self._publisher.publish(trial, record)
            tell_record(self._study, trial.number, record)
        self._observer.finished(record)
        self._on_result()
