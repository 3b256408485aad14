"""What an error in a worker means for the run: a stage, one line, and whether to try again."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.exceptions import TrialError
from schedsearch.records import TrialRecord, TrialState

if TYPE_CHECKING:
    from schedsearch.workers.progress import FileProgress

DISK_STAGE = "disk"
"""Stage of a trial that failed because the run folder's disk is full or gone."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def one_line(error: BaseException) -> str:
    """What went wrong, for a record."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, TrialError):
        return text
    return f"{type(error).__name__}: {text}"[:500]


def note_failure(progress: FileProgress) -> None:
    """Write the traceback of the error in flight to a job's log."""
    try:
        progress.note(traceback.format_exc())
    except OSError:  # the disk may be what failed
        return


def stage_of(error: BaseException, now: str) -> str:
    """The stage to blame: the error's own, the disk, or the one that was running."""
    if isinstance(error, TrialError):
        return error.stage
    return DISK_STAGE if any(map(_is_disk_error, _chain(error))) else now


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it: torch hides the system's error behind its own."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _is_disk_error(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return True
    # safetensors raises an error of its own, with the system's words in it
    return "No space left on device" in str(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether another attempt may find the memory that this one lacked."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError)


def as_failure(record: TrialRecord, *, stage: str, reason: str) -> TrialRecord:
    """The same trial as a failure."""
    return replace(
        record, state=TrialState.FAILED, evaluation=None, stage=stage, reason=reason, retry=False
    )
