"""Jobs in a worker: an outcome comes back, whatever happens."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trial_jobs import DEPTHS, confirm_job, job_of

from schedsearch.records import TrialRecord
from schedsearch.workers.jobs import DISK_STAGE, Done, Failed, Job, ProfileJob
from schedsearch.workers.run_job import run_job


def failed(job: Job) -> Failed:
    outcome = run_job(job)
    assert isinstance(outcome, Failed), outcome
    return outcome


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "run" / "trials" / "0007" / "log.txt").read_text()


def test_a_trial_comes_back_as_its_record(tmp_path: Path) -> None:
    outcome = run_job(job_of(tmp_path))
    assert isinstance(outcome, Done)
    assert isinstance(outcome.result, TrialRecord)
    assert (outcome.result.number, outcome.result.depths) == (7, DEPTHS)


@pytest.mark.parametrize(
    ("fault", "stage", "reason", "retry"),
    [
        ("raises", "fine-tune", "RuntimeError: the trainer broke", False),
        ("nan_loss", "fine-tune", "at step 1 of 2", False),
        ("nan_model", "sample", "64 of 64 samples are not finite", False),
        ("out_of_memory_once", "fine-tune", "MemoryError: no room", True),
        ("disk_full", DISK_STAGE, "No space left on device", False),
    ],
)
def test_faults_of_a_trial_say_where_and_why(
    tmp_path: Path, fault: str, stage: str, reason: str, retry: bool
) -> None:
    outcome = failed(job_of(tmp_path, fault))
    assert (outcome.stage, outcome.retry) == (stage, retry)
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert outcome.worker.endswith(f":{os.getpid()}")
    assert outcome.started.endswith("+00:00")
    assert outcome.seconds > 0
    assert not (tmp_path / "run" / "trials" / "0007" / "record.json").exists()
    assert "Traceback" in log_of(tmp_path)


def test_memory_that_was_short_once_is_enough_at_the_next_attempt(tmp_path: Path) -> None:
    job = job_of(tmp_path, "out_of_memory_once")
    assert failed(job).retry
    outcome = run_job(job)
    assert isinstance(outcome, Done)
    assert outcome.result.complete


def test_what_cannot_be_loaded_fails_in_load(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    outcome = failed(replace(job, settings="name: [broken"))
    assert outcome.stage == "load"
    assert "space.yaml:1:14: did not find expected" in outcome.reason
    data = yaml.safe_load(job.settings)
    data["backbone"]["checkpoint"] = str(tmp_path / "missing.safetensors")
    outcome = failed(replace(job, settings=yaml.safe_dump(data)))
    assert outcome.stage == "load"
    assert "missing.safetensors" in outcome.reason


def test_a_disk_that_fills_while_torch_saves_is_seen_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch answers with a RuntimeError of its own, and the system's error behind it."""

    def save(state: object, handle: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:671]")  # noqa: B904

    monkeypatch.setattr(torch, "save", save)
    outcome = failed(job_of(tmp_path))
    assert outcome.stage == DISK_STAGE
    assert "inline_container" in outcome.reason


def test_jobs_of_the_other_kinds_fail_alike(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    lost = failed(confirm_job(job, seed=1))  # its trial never ran
    assert lost.stage == "job"
    assert "0007" in lost.reason
    broken = failed(ProfileJob(settings="name: [broken", run_dir=job.run_dir))
    assert "space.yaml:1:14" in broken.reason
    unknown = failed(Job(settings="", run_dir=""))
    assert unknown.reason == "TypeError: A worker knows no Job."


def test_an_interrupt_is_no_outcome(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_job(job_of(tmp_path, "stopped_after_step_1"))
