"""What a worker is given and what it returns: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.planning.error_table import ErrorTable
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings.recipe import Start
from schedsearch.settings.rows import Row

DISK_STAGE = "disk"
"""Stage of a job that failed because the run folder's disk is full or gone."""

WORKER_STAGE = "worker"
"""Stage of a job whose worker died or took too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every job needs to know."""

    settings: str
    """The resolved search space file, as text."""
    run_dir: str
    """The run folder; every worker must see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob(Job):
    """Fine-tunes and measures one schedule."""

    number: int
    """Number of the Optuna trial, and of its folder."""
    schedule: ExitSchedule
    label: str | None
    """Name of a warm start such as ``D3-DiT``; None for a proposal."""
    origin: str | None = None
    """``dp`` for an optimum of the error table, None for a proposal of the sampler."""
    predicted_latency_ms: float
    """What the latency table says of this schedule."""
    measure_latency: bool
    """Whether the worker owns its device and measures latency in place."""
    latency_device: str | None = None
    """Kind of device of the run's latencies; a worker on another kind takes the prediction."""
    resume_from: int | None = None
    """Interrupted trial of the same schedule whose saved progress is continued."""
    accumulate: int | None = None
    """Parts of a batch, where memory ran out; None takes the recipe's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmJob(Job):
    """Measures the kept weights of a finished trial at a held-out evaluation seed."""

    number: int
    schedule: ExitSchedule
    seed: int
    """Of the starting noise, the same for every schedule."""
    num_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainJob(Job):
    """Retrains a trial's schedule with another training seed and measures the result."""

    number: int
    schedule: ExitSchedule
    training_seed: int
    """The same batches, noise and timesteps for every schedule."""
    seeds: tuple[int, ...]
    """Evaluation seeds, the same for every schedule with this training seed."""
    num_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob(Job):
    """Fine-tunes a schedule from one start and judges it; fits the adapters first."""

    start: Start
    label: str
    schedule: ExitSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileJob(Job):
    """Tunes the shared weights, where trials share them, and measures the error table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkJob(Job):
    """Trains or cuts out the network of a row of a comparison."""

    row: Row
    training_seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJob(Job):
    """Calibrates plans for one number of solver steps."""

    num_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowJob(Job):
    """Calibrates and measures one row of a comparison, with its twin if it is dynamic."""

    row: Row
    training_seed: int | None
    """None where nothing is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A job ended well."""

    result: TrialRecord | tuple[ConfirmRecord, ...] | tuple[RivalRecord, ...] | ErrorTable | None
    """Of a trial, confirmation, row or profile; None where no table was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A job ended without a result."""

    stage: str
    """Part of the job that failed, or :data:`DISK_STAGE`, or :data:`WORKER_STAGE`."""
    reason: str
    """One line."""
    retry: bool = False
    """Whether another attempt may succeed: the worker died, or memory ran out."""
    out_of_memory: bool = False
    """Whether memory ran out; the worker's process ends, so that its memory is free again."""
    started: str = ""
    """UTC time, ISO 8601; empty where the worker died."""
    seconds: float = 0.0
    worker: str = ""
    """Host and process."""


Outcome = Done | Failed
