"""What an error in a worker means for the run."""

import errno
import os
import signal
from pathlib import Path

import pytest
import torch

from schedsearch.exceptions import TrialError
from schedsearch.workers.failures import StageError, failure_of, note_failure
from schedsearch.workers.jobs import DISK_STAGE, Failed
from schedsearch.workers.progress import FileProgress

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failure(error: BaseException, stage: str | None = None) -> Failed:
    """The outcome of an error that was raised in a stage."""
    if stage is not None:
        outer = StageError(stage)
        outer.__cause__ = error
        error = outer
    return failure_of(error, started="2026-01-01T00:00:00+00:00", seconds=1.5)


@pytest.mark.parametrize(
    ("error", "stage", "reason"),
    [
        (RuntimeError("it\n broke"), "save", "RuntimeError: it broke"),
        (ValueError(), "save", "ValueError: no message"),
        (TrialError("the loss is nan", stage="fine-tune"), "fine-tune", "the loss is nan"),
        (FULL, DISK_STAGE, "OSError: [Errno 28] No space left on device"),
        (OSError(errno.EROFS, "read-only"), DISK_STAGE, "OSError: [Errno 30] read-only"),
        (OSError(errno.ENOENT, "gone"), "save", "FileNotFoundError: [Errno 2] gone"),
        (
            Exception("I/O error: No space left on device (os error 28)"),  # as safetensors does
            DISK_STAGE,
            "Exception: I/O error: No space left on device (os error 28)",
        ),
    ],
)
def test_stage_and_reason(error: BaseException, stage: str, reason: str) -> None:
    found = failure(error, "save")
    assert (found.stage, found.reason, found.retry) == (stage, reason, False)
    assert (found.started, found.seconds) == ("2026-01-01T00:00:00+00:00", 1.5)


def test_an_error_outside_all_stages_blames_the_job() -> None:
    assert failure(RuntimeError("x")).stage == "job"


def test_a_long_reason_is_cut() -> None:
    assert len(failure(RuntimeError("x" * 10_000)).reason) == 500


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.OutOfMemoryError("no room")])
def test_another_attempt_may_find_memory(error: Exception) -> None:
    assert failure(error, "sample").retry


def test_a_log_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    note_failure(FileProgress(tmp_path / "gone", save_every=1))
    try:
        raise RuntimeError("it broke")
    except RuntimeError:
        note_failure(FileProgress(tmp_path, save_every=1))
    assert "RuntimeError: it broke" in (tmp_path / "log.txt").read_text()


def test_torch_hides_the_error_where_the_worker_looks(tmp_path: Path) -> None:
    """The limit on the size of files stands in for a full disk; in a process of its own."""
    import resource

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        progress = FileProgress(tmp_path, save_every=1)
        try:
            progress.save(1, lambda: {"weights": torch.zeros(10_000)})
        except RuntimeError as error:
            os._exit(3 if isinstance(error.__context__, OSError) else 1)
        except OSError:
            os._exit(3)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert list(tmp_path.iterdir()) == []
