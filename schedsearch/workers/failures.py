"""What an error in a worker means for the run."""

from __future__ import annotations

import errno
import os
import socket
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from schedsearch.exceptions import TrialError
from schedsearch.memory import is_out_of_memory
from schedsearch.workers.jobs import DISK_STAGE, Failed

if TYPE_CHECKING:
    from schedsearch.workers.progress import FileProgress

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class StageError(Exception):
    """Says in which stage of a job its cause was raised.

    Args:
        stage: Name of the stage.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


def failure_of(error: BaseException, *, started: str, seconds: float) -> Failed:
    """The outcome of a job that raised.

    Args:
        error: What was raised; of a :class:`StageError` its cause.
        started: UTC time at which the job began, ISO 8601.
        seconds: What it took.
    """
    stage, cause = "job", error
    if isinstance(error, StageError) and error.__cause__ is not None:
        stage, cause = error.stage, error.__cause__
    return Failed(
        stage=_stage_of(cause, stage),
        reason=one_line(cause),
        retry=(lacked := _out_of_memory(cause)),
        out_of_memory=lacked,
        started=started,
        seconds=seconds,
        worker=worker_name(),
    )


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def one_line(error: BaseException) -> str:
    """What went wrong, for a record."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, TrialError):
        return text[:2000]
    return f"{type(error).__name__}: {text}"[:500]


def note_failure(progress: FileProgress) -> None:
    """Write the traceback of the error in flight to a job's log."""
    try:
        progress.note(traceback.format_exc())
    except OSError:  # the disk may be what failed
        return


def _stage_of(error: BaseException, now: str) -> str:
    """The stage to blame: the error's own, the disk, or the one that was running."""
    if isinstance(error, TrialError):
        return error.stage
    return DISK_STAGE if any(map(_is_disk_error, _chain(error))) else now


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it; torch hides the system's error."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _is_disk_error(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return True
    # NOTE: safetensors raises its own error, with the system's words in it.
    return "No space left on device" in str(error)


def _out_of_memory(error: BaseException) -> bool:
    """Whether another attempt may find the memory that this one lacked."""
    return is_out_of_memory(error)
