"""Errors of the tool; each carries the exit code that the command line ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line (documented in the README)."""

    DONE = 0
    CONFIG = 2
    """Bad input or configuration."""
    SOME_FAILED = 3
    """Finished, but a schedule ended without a result after its retries."""
    NO_RESULT = 4
    """No complete trial."""
    STORAGE = 5
    """Storage, lock, disk or Ray; run the same command again to resume."""
    TIME_UP = 124
    """``search.budget`` has no room for what is left; a larger one resumes."""
    INTERRUPTED = 130
    """Interrupted; run the same command again to resume."""


class SchedSearchError(Exception):
    """Base of the tool's errors: one sentence with rule, value and remedy."""

    exit_code: ExitCode = ExitCode.CONFIG


class ConfigError(SchedSearchError):
    """A file, an argument or a setting is wrong."""


class ScheduleError(ConfigError):
    """A schedule cannot be applied to a model, or a call cannot follow it."""


class CheckpointError(ConfigError):
    """A weights file is missing, damaged or belongs to another model."""


class StorageError(SchedSearchError):
    """The run folder or the study cannot be used, or Ray was lost."""

    exit_code = ExitCode.STORAGE


class NoResultError(SchedSearchError):
    """A run holds no complete trial, or none that meets the request."""

    exit_code = ExitCode.NO_RESULT


class TrialError(SchedSearchError):
    """A trial cannot go on; the run can.

    Args:
        message: What happened.
        stage: Part of the trial that failed, for example ``"fine-tune"``.
        network: The last network that was finite, to be looked at; None where there is none.
    """

    def __init__(
        self, message: str, *, stage: str = "trial", network: object | None = None
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.network = network
