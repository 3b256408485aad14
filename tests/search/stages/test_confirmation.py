"""Which measurements a run still lacks after its trials, and how they are recorded."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from driving import confirm_of, entry_of, record_of, settings_of
from rich.console import Console

from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.report.live import RunView
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.journal import Journal
from schedsearch.runs.results import RunResults, hypervolume_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.stages.confirmation import (
    Confirmation,
    confirmation_jobs,
    drop_recorded_weights,
    entries_to_confirm,
    entries_to_retrain,
    spread_over_latency,
)
from schedsearch.workers.jobs import WORKER_STAGE, ConfirmJob, Done, Failed, Job, RetrainJob

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 48.0),  # the opponent of D2-DiT
    record_of(3, (7,) * 10, 2.0, 90.0),
    record_of(4, (6,) * 10, 9.0, 20.0),
    record_of(5, (5,) * 10, 9.5, 60.0),  # dominated
    record_of(6, (4,) * 10, None),
]
CONFIRMED = [0, 1, 2, 3]
"""Full depth, the preset, its opponent, and the best FID of each half of the front."""


def results_of(
    confirmed: Sequence[ConfirmRecord] = (),
    records: Sequence[TrialRecord] = RECORDS,
    **evaluation: Any,
) -> RunResults:
    settings = settings_of(evaluation={"confirm_seeds": 2, "seed": 10, **evaluation})
    return RunResults(settings, records, None, confirmed)


def jobs_of(results: RunResults, root: Path = Path("/run")) -> list[Job]:
    return confirmation_jobs(results, "settings", RunFolder(root))


def measurements(jobs: Sequence[Job]) -> list[tuple[int, int]]:
    return [(job.seed, job.number) for job in jobs if isinstance(job, ConfirmJob)]


def retrainings(jobs: Sequence[Job]) -> list[tuple[int, int, tuple[int, ...]]]:
    found = [job for job in jobs if isinstance(job, RetrainJob)]
    return [(job.training_seed, job.number, job.seeds) for job in found]


# ---- which schedules --------------------------------------------------------------------------


def test_full_depth_presets_their_opponents_and_some_of_the_front() -> None:
    assert [entry.trial for entry in entries_to_confirm(results_of())] == CONFIRMED


def test_a_run_without_presets_confirms_its_front() -> None:
    searched = results_of(records=RECORDS[2:])
    assert [entry.trial for entry in entries_to_confirm(searched)] == [2, 3]
    assert entries_to_retrain(searched) == []


def test_presets_that_a_searched_schedule_meets_are_retrained_with_it() -> None:
    assert [entry.trial for entry in entries_to_retrain(results_of())] == [1, 2]
    unmet = record_of(7, (3,) * 10, 8.0, 10.0, label="D3-DiT")  # nothing is as fast
    more = results_of(records=[*RECORDS, unmet])
    assert [entry.trial for entry in entries_to_retrain(more)] == [1, 2]
    assert 7 in [entry.trial for entry in entries_to_confirm(more)]


def test_the_front_is_spread_by_latency_and_not_by_count() -> None:
    front = [entry_of(n, 9.0 - n, ms) for n, ms in enumerate([10, 11, 12, 25, 30, 40])]
    assert [entry.trial for entry in spread_over_latency(front, 3)] == [2, 3, 5]
    assert [entry.trial for entry in spread_over_latency(front[:1], 3)] == [0]
    assert spread_over_latency([], 3) == []


# ---- which jobs -------------------------------------------------------------------------------


def test_seeds_go_round_robin_over_the_schedules_and_are_held_out() -> None:
    jobs = jobs_of(results_of())
    assert measurements(jobs) == [(seed, number) for seed in (11, 12) for number in CONFIRMED]
    assert jobs[0] == ConfirmJob(
        settings="settings",
        run_dir="/run",
        number=0,
        schedule=ExitSchedule((10,) * 10),
        seed=11,
        num_samples=64,
    )
    more = jobs_of(results_of(confirm_samples=128))
    assert {job.num_samples for job in more if isinstance(job, ConfirmJob)} == {128}


def test_what_is_recorded_is_not_measured_again() -> None:
    done = [confirm_of(number, seed, 3.0) for seed, number in measurements(jobs_of(results_of()))]
    assert measurements(jobs_of(results_of(done[:6]))) == [(12, 2), (12, 3)]
    assert jobs_of(results_of(done)) == []


def test_retrainings_have_their_own_training_and_evaluation_seeds() -> None:
    jobs = jobs_of(results_of(confirm_training_seeds=2))
    assert retrainings(jobs) == [
        (1, 1, (13, 14)),
        (1, 2, (13, 14)),  # the pair shares batches and starting noise
        (2, 1, (15, 16)),
        (2, 2, (15, 16)),
    ]
    assert len(measurements(jobs)) == 8
    assert isinstance(jobs[0], ConfirmJob)  # the quick ones come first


def test_only_missing_seeds_of_a_retraining_are_asked_again() -> None:
    done = [
        confirm_of(1, 13, 3.0, training_seed=1),
        confirm_of(1, 14, 3.0, training_seed=1),
        confirm_of(2, 14, 3.0, training_seed=1),
        confirm_of(1, 15, 3.0),  # of the trial's own weights: not of the retraining
    ]
    jobs = jobs_of(results_of(done, confirm_training_seeds=2))
    assert retrainings(jobs) == [(1, 2, (13,)), (2, 1, (15, 16)), (2, 2, (15, 16))]


def test_weights_whose_results_are_all_recorded_go_at_the_next_start(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    done = [
        confirm_of(1, 13, 3.0, training_seed=1),
        confirm_of(1, 14, 3.0, training_seed=1),
        confirm_of(2, 14, 3.0, training_seed=1),  # seed 13 is missing
    ]
    paths = [folder.retrained_weights(number, 1) for number in (1, 2)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
    results = results_of(done, confirm_training_seeds=2)
    drop_recorded_weights(results, jobs_of(results, tmp_path), folder)
    assert [path.exists() for path in paths] == [False, True]


# ---- how they are recorded --------------------------------------------------------------------


class Stage:
    """A confirmation with its journal, and what it told."""

    def __init__(self, root: Path, **evaluation: Any) -> None:
        self.folder = RunFolder(root)
        self.journal = Journal(self.folder.confirmation_file, ConfirmRecord.from_json)
        self.told = io.StringIO()
        self.evaluation = evaluation
        self.source = Confirmation(
            self.jobs_left(),
            folder=self.folder,
            journal=self.journal,
            max_retries=1,
            observer=RunView(Console(file=self.told, width=200), hypervolume_of),
        )

    def jobs_left(self) -> list[Job]:
        return jobs_of(results_of(self.journal.read(), **self.evaluation), self.folder.root)

    def answer(self, job: Job, fid: float = 3.0) -> None:
        """What a worker does."""
        if isinstance(job, RetrainJob):
            weights = self.folder.retrained_weights(job.number, job.training_seed)
            weights.parent.mkdir(parents=True)
            weights.write_bytes(b"weights")
            records = [confirm_of(job.number, s, fid, job.training_seed) for s in job.seeds]
        else:
            assert isinstance(job, ConfirmJob)
            records = [confirm_of(job.number, job.seed, fid)]
        self.source.finish(job, Done(result=tuple(records)))


def test_results_are_recorded_as_they_come_and_then_nothing_is_left(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2)
    stage.source.announce()
    assert "confirming with held-out seeds, and retraining (12)" in stage.told.getvalue()
    for left in range(11, -1, -1):
        job = stage.source.next_job()
        assert job is not None
        stage.answer(job)
        assert len(stage.jobs_left()) == left
    assert stage.source.next_job() is None
    assert len(stage.journal.read()) == 8 + 4 * 2
    plain = Stage(tmp_path / "plain")
    plain.source.announce()
    assert "confirming with held-out seeds (8)" in plain.told.getvalue()


def test_retrained_weights_go_once_they_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2)
    retraining = next(job for job in stage.jobs_left() if isinstance(job, RetrainJob))
    weights = stage.folder.retrained_weights(retraining.number, retraining.training_seed)
    append = stage.journal.append

    def checked(record: ConfirmRecord) -> None:
        assert weights.is_file()  # a driver that dies here must find them at its next start
        append(record)

    monkeypatch.setattr(stage.journal, "append", checked)
    stage.answer(retraining)
    assert [r.training_seed for r in stage.journal.read()] == [1, 1]
    assert not weights.exists()


def test_a_failed_measurement_is_a_warning_that_names_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2)
    jobs = stage.jobs_left()
    died = Failed(stage=WORKER_STAGE, reason="the worker died", retry=True)
    for job in (jobs[0], jobs[0], jobs[-1]):
        stage.source.finish(job, died)
    stage.source.finish(jobs[-1], Failed(stage="fine-tune", reason="loss is nan at step 3"))
    told = stage.told.getvalue()
    assert "Confirmation of trial 0 with seed 11 failed: the worker died" in told
    assert "Retraining of trial 2 with training seed 2 failed: loss is nan at step 3" in told
    assert stage.journal.read() == []
    assert stage.jobs_left() == jobs  # the next start tries them again
