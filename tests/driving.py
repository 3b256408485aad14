"""A driver's study without workers: a real database, and records made by hand."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import TrialState as OptunaState
from rich.console import Console
from tiny_runs import tiny_space

from schedsearch.config import settings_from_text
from schedsearch.proposers.registry import build_sampler
from schedsearch.records import ConfirmRecord, Evaluation, TrialRecord, TrialState
from schedsearch.report.live import RunView
from schedsearch.runs.entry import EntryLatency, FrontEntry
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.journal import Journal
from schedsearch.runs.results import hypervolume_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.dashboard import TrialPublisher
from schedsearch.search.study.driver_storage import for_driver
from schedsearch.search.study.storage import open_artifacts, open_storage, open_study
from schedsearch.search.study.study import ScheduleStudy
from schedsearch.search.study.warm_starts import WarmStart
from schedsearch.settings import StudySettings
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, TrialJob

TIMES = (999.0, 666.0, 333.0)
"""Where a solver with three steps calls the network: intervals 9, 6 and 3 of ten."""


def settings_of(**changes: Any) -> StudySettings:
    """Settings of the tiny space."""
    changes.setdefault("warm_start", [])
    return settings_from_text(yaml.safe_dump(tiny_space(**changes)))


def evaluation_of(fid: float, latency_ms: float, **changes: Any) -> Evaluation:
    """A result."""
    values = {
        "fid": fid,
        "kid": fid / 100,
        "latency_ms": latency_ms,
        "latency_source": "predicted",
        "nfe": 3,
        "num_samples": 64,
        "features": "digits CNN",
        "protocol": "0123456789abcdef",
        "sample_std": 0.5,
        "reference_std": 0.5,
        "nn_distance": 2.0,
        "near_copies": 0.05,
    }
    return Evaluation(**{**values, **changes})


def record_of(
    number: int,
    depths: Sequence[int],
    fid: float | None = 5.0,
    latency_ms: float = 10.0,
    label: str | None = None,
    **changes: Any,
) -> TrialRecord:
    """A finished trial; ``fid=None`` makes it a failed one."""
    values: dict[str, Any] = {
        "number": number,
        "depths": tuple(depths),
        "label": label,
        "state": TrialState.COMPLETE,
        "evaluation": None if fid is None else evaluation_of(fid, latency_ms),
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
    }
    if fid is None:
        values |= {"state": TrialState.FAILED, "stage": "fine-tune", "reason": "it broke"}
    return TrialRecord(**{**values, **changes})


def confirm_of(
    number: int, seed: int, fid: float, training_seed: int | None = None
) -> ConfirmRecord:
    """A confirmation, of the trial's own weights or of retrained ones."""
    return ConfirmRecord(
        number=number,
        seed=seed,
        num_samples=64,
        training_seed=training_seed,
        fid=fid,
        kid=fid / 100,
        sample_std=0.5,
        features="digits CNN",
        nn_distance=2.0,
        near_copies=0.05,
    )


def entry_of(trial: int, fid: float, latency_ms: float, name: str | None = None) -> FrontEntry:
    """A schedule as the front shows it."""
    latency = EntryLatency(
        ms=latency_ms,
        source="measured",
        half_width_ms=0.1,
        predicted_ms=latency_ms,
        acceleration=0.25,
    )
    record = record_of(trial, (10 - trial,) * 10, fid, latency_ms, label=name)
    return FrontEntry(record=record, latency=latency)


class Driver:
    """One start of a driver on a folder; another instance is the next start."""

    def __init__(
        self,
        root: Path,
        settings: StudySettings,
        warm_starts: Sequence[WarmStart] = (),
        times: Sequence[float] = TIMES,
    ) -> None:
        self.folder = RunFolder(root)
        self.folder.create()
        self.settings = settings
        self.space = settings.space.build()
        self.journal = Journal(self.folder.results_file, TrialRecord.from_json)
        storage = for_driver(open_storage(self.folder, settings.search.storage))
        self.optuna = open_study(storage, settings.name)
        sampler = build_sampler(
            settings.search.sampler,
            self.space,
            settings.search.seed,
            [1] * settings.space.num_intervals,
        )
        self.told = io.StringIO()
        console = Console(file=self.told, width=200)
        self.study = ScheduleStudy(
            self.optuna,
            settings=settings,
            settings_text="settings",
            folder=self.folder,
            journal=self.journal,
            warm_starts=warm_starts,
            times=times,
            predict_ms=lambda schedule: float(sum(schedule.depths)),
            latency_device="cpu",
            publisher=TrialPublisher(self.optuna, open_artifacts(self.folder), self.folder),
            observer=RunView(console, hypervolume_of),
            on_result=lambda: None,
        )
        self.study.proposals.use_sampler(sampler)

    def prepare(self, *seeds: Sequence[int]) -> None:
        """What a start does before it asks for schedules."""
        self.study.prepare()
        self.study.enqueue_first(ExitSchedule(tuple(depths)) for depths in seeds)

    def ask(self) -> TrialJob:
        """The next job, which there is."""
        job = self.study.next_job()
        assert isinstance(job, TrialJob)
        return job

    def answer(self, job: TrialJob, fid: float | None = 5.0, **changes: Any) -> TrialRecord:
        """Let a worker answer."""
        depths = job.schedule.depths
        record = record_of(job.number, depths, fid, float(sum(depths)), label=job.label, **changes)
        if record.complete:
            self.study.finish(job, Done(result=record))
        else:
            assert record.stage is not None
            assert record.reason is not None
            self.study.finish(job, Failed(stage=record.stage, reason=record.reason))
        return record

    def lose(self, job: TrialJob, reason: str = "the worker died") -> None:
        """Let a worker die."""
        self.study.finish(job, Failed(stage=WORKER_STAGE, reason=reason, retry=True))

    def write_record(self, record: TrialRecord) -> None:
        """What a worker leaves in the folder of its trial."""
        folder = self.folder.trial(record.number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(record.to_json() + "\n")

    def numbers(self, state: OptunaState) -> list[int]:
        """Numbers of the Optuna trials in a state, duplicates left out."""
        return [
            t.number for t in self.trials() if t.state is state and DUPLICATE not in t.user_attrs
        ]

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All Optuna trials, read afresh."""
        return self.optuna.get_trials(deepcopy=False)


DUPLICATE = "duplicate_of"


def warm(*labelled: tuple[str, Sequence[int]]) -> list[WarmStart]:
    """Warm starts."""
    return [WarmStart(label, ExitSchedule(tuple(depths))) for label, depths in labelled]


def with_trials(settings: StudySettings, n_trials: int) -> StudySettings:
    """The same settings with another number of trials."""
    return replace(settings, search=replace(settings.search, n_trials=n_trials))
