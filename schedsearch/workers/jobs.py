"""What a worker is given: plain data, for a queue or for Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from schedsearch.schedules.exit_schedule import ExitSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """Everything that a worker needs to fine-tune and measure one schedule."""

    number: int
    """Number of the Optuna trial, and of its folder."""
    depths: tuple[int, ...]
    label: str | None
    """Name of a warm start such as ``D3-DiT``; None for a schedule that the search proposed."""
    settings: str
    """The resolved search space file."""
    run_dir: str
    """The run folder; every worker must see it."""
    predicted_latency_ms: float
    """What the latency table says of this schedule."""
    measure_latency: bool
    """Whether the worker owns its device and measures latency in place."""
    resume_from: int | None = None
    """Interrupted trial of the same schedule whose saved progress is continued."""
    origin: str | None = None
    """Where a schedule without a label comes from: ``dp`` for a seed of the error table, None
    for a proposal of the sampler."""

    @property
    def schedule(self) -> ExitSchedule:
        """The schedule to run."""
        return ExitSchedule(self.depths)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a queue or for Ray."""
        return {"kind": "trial", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmJob:
    """Measures the kept weights of a finished trial once more, with a fresh seed."""

    number: int
    depths: tuple[int, ...]
    label: str | None
    settings: str
    run_dir: str
    seed: int
    """Evaluation seed: noise of the samples, the same for every trial."""
    num_samples: int
    num_steps: int = 0
    """Steps by which the fine-tune was continued; 0 takes its weights as they are."""
    training_seed: int | None = None
    """Of a fine-tune anew; None takes the trial's own."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a queue or for Ray."""
        return {"kind": "confirm", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteJob:
    """Continues the fine-tune of a finished trial before it is confirmed."""

    number: int
    depths: tuple[int, ...]
    label: str | None
    settings: str
    run_dir: str
    num_steps: int
    """Further steps, from the trial's EMA weights."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a queue or for Ray."""
        return {"kind": "promote", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainJob:
    """Fine-tunes a trial's schedule anew with another training seed."""

    number: int
    depths: tuple[int, ...]
    label: str | None
    settings: str
    run_dir: str
    training_seed: int
    """The same batches, noise and timesteps for every schedule."""
    num_steps: int = 0
    """Steps by which the new fine-tune is continued, as those of promoted trials are."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a queue or for Ray."""
        return {"kind": "retrain", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileJob:
    """One shared fine-tune with random exits, and the error table of its weights."""

    exits: Literal["uniform", "schedules"]
    """Depths drawn uniformly per sample, or by random schedules of the space."""
    settings: str
    run_dir: str
    number: int = -1
    """No trial."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a queue or for Ray."""
        return {"kind": "profile", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlJob:
    """Samples images at full depth that the FIDs of trials are corrected by."""

    seed: int
    """Of the noise."""
    settings: str
    run_dir: str
    number: int = -1
    """No trial."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a queue or for Ray."""
        return {"kind": "control", **asdict(self)}


Job = TrialJob | ConfirmJob | PromoteJob | RetrainJob | ProfileJob | ControlJob

_KINDS = {
    "trial": TrialJob,
    "confirm": ConfirmJob,
    "promote": PromoteJob,
    "retrain": RetrainJob,
    "profile": ProfileJob,
    "control": ControlJob,
}


def job_from_dict(data: Mapping[str, Any]) -> Job:
    """The job whose ``to_dict`` gave this."""
    values = {key: value for key, value in data.items() if key != "kind"}
    if "depths" in values:
        values["depths"] = tuple(values["depths"])
    job: Job = _KINDS[data["kind"]](**values)
    return job
