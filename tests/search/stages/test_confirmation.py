"""Which trials are confirmed, and what happens to the jobs."""

import io
from pathlib import Path

import pytest
from driving import confirm_of, record_of, settings_of
from rich.console import Console
from schedsearch.search.stages.chosen import trials_to_confirm
from schedsearch.search.stages.confirmation_jobs import JobsLeft
from schedsearch.search.volumes import hypervolume_of

from schedsearch.exceptions import StorageError
from schedsearch.records import ConfirmRecord
from schedsearch.report.live import RunView
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.journal import Journal
from schedsearch.runs.results import RunResults
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.stages.confirmation import Confirmation
from schedsearch.workers.jobs import ConfirmJob, PromoteJob, RetrainJob

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 48.0),
    record_of(3, (7,) * 10, 2.0, 90.0),
    record_of(4, (6,) * 10, 9.0, 20.0),
]


class Stage:
    """A confirmation with what it told."""

    def __init__(self, root: Path, **evaluation: int) -> None:
        settings = settings_of(
            evaluation={"confirm_seeds": 2, "runoff_seeds": 0, "seed": 10, **evaluation},
            search={"max_retries": 1},
        )
        self.settings, self.root = settings, root
        self.journal = Journal(root / "confirmation.jsonl", ConfirmRecord.from_json)
        self.told = io.StringIO()
        self.source = Confirmation(
            self.results,
            settings_text="settings",
            folder=RunFolder(root),
            journal=self.journal,
            observer=RunView(Console(file=self.told, width=200), hypervolume_of),
        )

    def results(self) -> RunResults:
        return RunResults(self.settings, RECORDS, None, self.journal.read())

    def answer(self, job: ConfirmJob, fid: float) -> None:
        record = confirm_of(job.number, job.seed, fid, job.training_seed)
        self.source.finish(job, {"record": record.to_json()})

    def retrain(self) -> list[tuple[int, int]]:
        """Let workers fine-tune anew what is handed out; trials and training seeds."""
        found = []
        while isinstance(job := self.source.next_job(), RetrainJob):
            path = RunFolder(self.root).retrained(job.number, job.training_seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
            self.source.finish(job, {"record": "{}"})
            found.append((job.number, job.training_seed))
        if job is not None:
            self.source.lose(job, "not yet", retry=True)
        return found

    def promote(self) -> list[int]:
        """Let workers continue the fine-tunes that are handed out; their trials."""
        found = []
        while isinstance(job := self.source.next_job(), PromoteJob):
            assert job.num_steps == self.settings.evaluation.confirm_steps
            path = RunFolder(self.root).promoted(job.number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
            self.source.finish(job, {"record": "{}"})
            found.append(job.number)
        if job is not None:
            self.source.lose(job, "not yet", retry=True)
        return found

    def jobs(self) -> list[ConfirmJob]:
        found = []
        while (job := self.source.next_job()) is not None:
            assert isinstance(job, ConfirmJob)
            found.append(job)
        return found


CONFIRMED = [0, 1, 2, 4, 3]
"""Full depth, the preset, its rival, and what is left of the front from fast to slow."""


def test_full_depth_presets_their_rivals_and_the_front(tmp_path: Path) -> None:
    assert trials_to_confirm(Stage(tmp_path).results()) == CONFIRMED


def test_a_full_disk_ends_the_confirmation_and_is_no_verdict(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    job, *_ = stage.jobs()
    with pytest.raises(StorageError, match="Free space and run the same command again"):
        stage.source.finish(job, {"error": "OSError: no space", "stage": "disk"})


def test_seeds_go_round_robin_and_are_fresh(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert stage.source.num_jobs == 10
    jobs = stage.jobs()
    assert [(job.seed, job.number) for job in jobs] == [
        (seed, number) for seed in (11, 12) for number in CONFIRMED
    ]
    assert {job.num_steps for job in jobs} == {0}
    assert {job.num_samples for job in jobs} == {64}
    assert jobs[0].depths == (10,) * 10
    assert jobs[0].label == FULL


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    for job in stage.jobs()[:8]:
        record = confirm_of(job.number, job.seed, 3.0)
        stage.source.finish(job, {"record": record.to_json()})
    with stage.journal.path.open("a") as handle:
        handle.write('{"number": 1')  # the driver died here
    resumed = Stage(tmp_path)
    assert [(job.seed, job.number) for job in resumed.jobs()] == [(12, 4), (12, 3)]
    assert len(resumed.journal.read()) == 8
    assert Stage(tmp_path, confirm_samples=128).source.num_jobs == 10  # these do not compare


def test_a_failure_is_a_warning(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    job = stage.jobs()[0]
    stage.source.finish(job, {"error": "CheckpointError: gone"})
    assert stage.journal.read() == []
    assert (
        "confirmation of trial 0 with seed 11 failed: CheckpointError: gone"
        in stage.told.getvalue()
    )


def test_lost_workers_get_another_chance(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    job = stage.jobs()[0]
    stage.source.lose(job, "the worker died", retry=True)
    assert stage.source.next_job() == job
    stage.source.lose(job, "the worker died", retry=True)
    assert stage.source.next_job() is None
    assert "confirmation of trial 0 with seed 11 failed: the worker died" in stage.told.getvalue()


def test_a_time_out_is_final(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.source.lose(stage.jobs()[0], "no result within 3 s", retry=False)
    assert stage.source.next_job() is None
    message = "confirmation of trial 0 with seed 11 failed: no result within 3 s"
    assert message in stage.told.getvalue()


@pytest.mark.parametrize("seeds", [0, 1])
def test_number_of_seeds(tmp_path: Path, seeds: int) -> None:
    assert Stage(tmp_path, confirm_seeds=seeds).source.num_jobs == len(CONFIRMED) * seeds


def test_a_runoff_chooses_the_rival_at_seeds_of_its_own(tmp_path: Path) -> None:
    stage = Stage(tmp_path, runoff_seeds=2)
    stage.source.announce()
    jobs = stage.jobs()  # while they run, nothing else is handed out
    assert [(job.seed, job.number) for job in jobs] == [(13, 2), (13, 4), (14, 2), (14, 4)]
    for job in jobs:  # the contender with the worse FID of the search wins
        assert stage.source.next_job() is None
        stage.answer(job, 8.0 if job.number == 2 else 7.0)
    verdicts = stage.jobs()
    assert [(job.seed, job.number) for job in verdicts] == [
        (seed, number) for seed in (11, 12) for number in (0, 1, 4, 2, 3)
    ]
    for job in verdicts:
        stage.answer(job, 5.0 + job.number)
    (found,) = stage.results().comparisons()
    assert (found.preset, found.rival, found.num_seeds) == (1, 4, 2)
    assert found.difference == pytest.approx(3.0)  # of the verdict's seeds alone
    assert stage.source.next_job() is None
    told = stage.told.getvalue()
    assert told.index("choosing each preset's rival") < told.index("confirming with fresh seeds")


def test_an_interrupted_runoff_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, runoff_seeds=2)
    for job in stage.jobs()[:3]:
        stage.answer(job, 7.0)
    resumed = Stage(tmp_path, runoff_seeds=2)
    (last,) = resumed.jobs()
    assert (last.seed, last.number) == (14, 4)
    resumed.answer(last, 1.0)
    assert [job.number for job in resumed.jobs()][:5] == [0, 1, 4, 2, 3]
    assert Stage(tmp_path, runoff_seeds=2).source.num_jobs == 10  # the runoff is done


def test_a_runoff_that_failed_leaves_the_choice_to_the_search(tmp_path: Path) -> None:
    stage = Stage(tmp_path, runoff_seeds=2)
    for job in stage.jobs():
        stage.source.lose(job, "no result within 3 s", retry=False)
    assert [job.number for job in stage.jobs()][:3] == [0, 1, 2]


def test_a_single_contender_needs_no_runoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "RECORDS", RECORDS[:4])
    assert {job.seed for job in Stage(tmp_path, runoff_seeds=2).jobs()} == {11, 12}


# ---- continued fine-tunes ---------------------------------------------------------------------


def test_what_is_confirmed_is_promoted_first(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_steps=30)
    assert stage.source.num_jobs == 5
    assert stage.promote() == CONFIRMED
    jobs = stage.jobs()
    assert len(jobs) == 10
    assert {job.num_steps for job in jobs} == {30}
    for job in jobs:
        stage.answer(job, 4.0)
    # Measurements of the trials' own weights are others.
    assert Stage(tmp_path, confirm_steps=30).source.num_jobs == 10


def test_an_interrupted_promotion_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_steps=30)
    first, lost = stage.source.next_job(), stage.source.next_job()
    assert isinstance(first, PromoteJob)
    assert isinstance(lost, PromoteJob)
    path = RunFolder(tmp_path).promoted(first.number)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert Stage(tmp_path, confirm_steps=30).promote() == CONFIRMED[1:]


def test_a_failed_promotion_leaves_its_trial_out(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_steps=30)
    job = stage.source.next_job()
    assert job is not None
    stage.promote()
    stage.source.finish(job, {"error": "loss is nan at step 3"})
    assert {job.number for job in stage.jobs()} == set(CONFIRMED[1:])
    told = stage.told.getvalue()
    assert "continued fine-tune of trial 0 failed: loss is nan at step 3" in told
    assert "confirming with fresh seeds (8)" in told


def test_a_disk_that_fails_when_a_failure_is_noted_ends_in_a_clear_error(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2)
    for verdict in stage.jobs():
        stage.answer(verdict, 3.0)
    lost = stage.source.next_job()
    assert isinstance(lost, RetrainJob)
    folder = RunFolder(tmp_path).retraining(lost.number, lost.training_seed)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder belongs")
    with pytest.raises(StorageError, match=r"failed\.txt.*run the same command again"):
        stage.source.finish(lost, {"error": "loss is nan"})


# ---- fine-tunes anew --------------------------------------------------------------------------


def cells(jobs: list[ConfirmJob]) -> list[tuple[int, int, int]]:
    """Training seed, evaluation seed and trial of each, whoever comes first."""
    return sorted((job.training_seed or 0, job.seed, job.number) for job in jobs)


def test_presets_and_rivals_are_fine_tuned_anew_at_last(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2, confirm_steps=3)
    stage.promote()
    for job in stage.jobs():
        stage.answer(job, 3.0)
    first = stage.source.next_job()
    assert isinstance(first, RetrainJob)
    assert (first.depths, first.label, first.num_steps) == ((9,) * 10, "D2-DiT", 3)
    stage.source.lose(first, "the worker died", retry=True)
    assert stage.retrain() == [(2, 1), (1, 1)]
    jobs = stage.jobs()
    assert cells(jobs) == [(1, seed, number) for seed in (11, 12) for number in (1, 2)]
    assert {(job.num_steps, job.num_samples) for job in jobs} == {(3, 64)}
    told = stage.told.getvalue()
    assert "fine-tuning presets and rivals anew, training seed 1 of 2 (2)" in told
    assert "confirming, training seed 1 of 2 (4)" in told


def test_weights_stay_until_they_are_measured(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2)
    for job in stage.jobs():
        stage.answer(job, 3.0)
    folder = RunFolder(tmp_path)
    stage.retrain()
    jobs = {(job.number, job.seed): job for job in stage.jobs()}
    assert {job.training_seed for job in jobs.values()} == {1}
    stage.answer(jobs[1, 11], 3.0)
    assert folder.retrained(1, 1).is_file()
    stage.answer(jobs[1, 12], 3.0)
    assert not folder.retrained(1, 1).exists()  # measured at both seeds
    stage.answer(jobs[2, 12], 3.0)
    assert folder.retrained(2, 1).is_file()
    assert stage.source.next_job() is None  # the last measurement is still running
    # The driver dies here. Weights that are there are not made again.
    resumed = Stage(tmp_path, confirm_training_seeds=2)
    assert cells(resumed.jobs()) == [(1, 11, 2)]
    resumed = Stage(tmp_path, confirm_training_seeds=2)
    (last,) = resumed.jobs()
    resumed.answer(last, 3.0)
    assert not folder.retrained(2, 1).exists()
    assert resumed.retrain() == [(1, 2), (2, 2)]


def test_contenders_are_fine_tuned_anew_for_the_runoff(tmp_path: Path) -> None:
    options = {"confirm_training_seeds": 2, "runoff_seeds": 1, "runoff_training_seeds": 2}
    stage = Stage(tmp_path, **options)
    for seed in (3, 4):
        assert stage.retrain() == [(2, seed), (4, seed)]
        jobs = stage.jobs()
        assert cells(jobs) == [(seed, 13, 2), (seed, 13, 4)]
        for job in jobs:
            stage.answer(job, 8.0 if job.number == 2 else 7.0)
    verdicts = stage.jobs()
    assert [job.number for job in verdicts][:3] == [0, 1, 4]
    for job in verdicts:
        stage.answer(job, 3.0)
    for seed in (1, 2):
        assert stage.retrain() == [(1, seed), (4, seed)]
        for job in stage.jobs():
            stage.answer(job, 5.0 + job.number)
    (found,) = stage.results().comparisons()
    assert (found.preset, found.rival, found.num_training_seeds) == (1, 4, 2)
    assert found.difference == pytest.approx(3.0)
    assert stage.source.next_job() is None
    assert Stage(tmp_path, **options).source.num_jobs == 0


def test_a_fine_tune_that_failed_is_noted_and_left_out(tmp_path: Path) -> None:
    stage = Stage(tmp_path, confirm_training_seeds=2)
    for verdict in stage.jobs():
        stage.answer(verdict, 5.0 - verdict.number)
    lost = stage.source.next_job()
    assert isinstance(lost, RetrainJob)
    stage.source.finish(lost, {"error": "loss is nan at step 3"})
    assert stage.retrain() == [(2, 1)]
    for job in stage.jobs():
        assert (job.number, job.training_seed) == (2, 1)
        stage.answer(job, 1.0)
    stage.retrain()
    for job in stage.jobs():
        stage.answer(job, 1.0)
    (found,) = stage.results().comparisons()  # one training seed has no interval
    assert (found.num_training_seeds, found.difference) == (0, pytest.approx(-1.0))
    told = stage.told.getvalue()
    assert "fine-tune of trial 1 with training seed 1 failed: loss is nan at step 3" in told
    again = Stage(tmp_path, confirm_training_seeds=2)
    assert again.source.num_jobs == 0  # a later start does not repeat it
    assert again.source.jobs_left(again.results()) == JobsLeft()
    RunFolder(tmp_path).retraining_failure(1, 1).unlink()
    assert Stage(tmp_path, confirm_training_seeds=2).retrain() == [(1, 1)]


def test_what_is_left_shrinks_as_jobs_end(tmp_path: Path) -> None:
    def left(**evaluation: int) -> JobsLeft:
        stage = Stage(tmp_path, **evaluation)
        return stage.source.jobs_left(stage.results())

    assert left() == JobsLeft(measurements=10)
    assert left(confirm_seeds=0) == JobsLeft()
    assert left(confirm_steps=5) == JobsLeft(measurements=10, promotions=5)
    assert Stage(tmp_path, confirm_steps=5).promote() == CONFIRMED
    assert left(confirm_steps=5) == JobsLeft(measurements=10)
    stage = Stage(tmp_path)
    for job in stage.jobs()[:8]:
        stage.answer(job, 3.0)
    assert left() == JobsLeft(measurements=2)
    anew = left(confirm_training_seeds=2, runoff_seeds=1, runoff_training_seeds=3)
    # Two of the verdicts, a pair at two seeds each, and two contenders at one.
    retrainings = 2 * 2 + 3 * 2
    assert anew == JobsLeft(
        measurements=2 + 2 * 2 * 2 + 3 * 2,
        retrainings=retrainings,
        retraining_steps=retrainings * Stage(tmp_path).settings.recipe.num_steps,
    )
    one = Stage(tmp_path, confirm_training_seeds=2, confirm_steps=7)
    steps = one.settings.recipe.num_steps + 7
    assert one.source.jobs_left(one.results()).retraining_steps == 2 * 2 * steps
