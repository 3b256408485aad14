"""What a worker is given and what is kept of every trial: plain data, one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from schedsearch.objectives import Evaluation
from schedsearch.schedule import ExitSchedule
from schedsearch.strict_json import check_fields, read_object


class TrialState(StrEnum):
    """How a trial ended; an interrupted one is no record, its schedule runs again."""

    COMPLETE = "complete"
    FAILED = "failed"


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
    """Steps by which the trial's fine-tune was continued; 0 takes its weights as they are."""

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
    """Fine-tunes a trial's schedule anew with another training seed, and measures that."""

    number: int
    depths: tuple[int, ...]
    label: str | None
    settings: str
    run_dir: str
    training_seed: int
    """The same batches, noise and timesteps for every schedule."""
    seeds: tuple[int, ...]
    """Evaluation seeds."""
    num_samples: int
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


Job = TrialJob | ConfirmJob | PromoteJob | RetrainJob | ProfileJob

_WITH_DEPTHS = {
    "trial": TrialJob,
    "confirm": ConfirmJob,
    "promote": PromoteJob,
    "retrain": RetrainJob,
}


def job_from_dict(data: Mapping[str, Any]) -> Job:
    """The job whose ``to_dict`` gave this."""
    values = {key: value for key, value in data.items() if key != "kind"}
    if data["kind"] == "profile":
        return ProfileJob(**values)
    for name in ("depths", "seeds"):
        if name in values:
            values[name] = tuple(values[name])
    job: Job = _WITH_DEPTHS[data["kind"]](**values)
    return job


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """Outcome of a trial; ``evaluation`` is set exactly when the state is complete."""

    number: int
    depths: tuple[int, ...]
    label: str | None = None
    origin: str | None = None
    """As in the job: ``dp`` for a seed of the error table."""
    state: TrialState
    evaluation: Evaluation | None = None
    stage: str | None = None
    """Stage that failed: load, fine-tune, sample, fid, latency, save or worker."""
    reason: str | None = None
    """Why it failed, one line."""
    retry: bool = False
    """Whether a new attempt may succeed (a lost worker, memory); never with bad numbers."""
    started: str
    """UTC time, ISO 8601."""
    seconds: float
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""
    """Host and process."""
    device: str = ""
    final_loss: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.state is TrialState.COMPLETE) != (self.evaluation is not None):
            raise ValueError(
                "A record has an evaluation exactly when it is complete, but got "
                f"state={self.state.value!r}, evaluation={self.evaluation!r}."
            )

    @property
    def complete(self) -> bool:
        """Whether the trial has a result."""
        return self.state is TrialState.COMPLETE

    @property
    def schedule(self) -> ExitSchedule:
        """The schedule that ran."""
        return ExitSchedule(self.depths)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line of :meth:`to_json`.

        Raises:
            ValueError: If the line is no record.
        """
        data = read_object(line, "A trial record")
        check_fields(cls, data)
        if data.get("evaluation") is not None:
            check_fields(Evaluation, data["evaluation"])
            data["evaluation"] = Evaluation(**data["evaluation"])
        if not isinstance(data["depths"], list):
            raise ValueError(f"TrialRecord.depths: expected a list, got {data['depths']!r}.")
        data["depths"] = ExitSchedule(tuple(data["depths"])).depths
        data["state"] = TrialState(data["state"])
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmRecord:
    """FID and KID of a finished trial at one fresh seed."""

    number: int
    seed: int
    num_samples: int
    fid: float
    kid: float
    features: str
    num_steps: int = 0
    """Steps by which the trial's fine-tune was continued for this measurement."""
    training_seed: int | None = None
    """Of a fine-tune anew; None for the trial's own."""
    fid_ci95: tuple[float, float] | None = None
    """95 % interval of ``fid`` over the images of this seed, by bootstrap."""
    kid_ci95: tuple[float, float] | None = None
    """The same of ``kid``."""
    audit_fid: float | None = None
    """FID of the same images by ``evaluation.auditor``, which no choice depends on."""
    audit_features: str | None = None
    """The auditor's name."""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line of :meth:`to_json`; ValueError when it is no such record."""
        data = read_object(line, "A confirmation")
        check_fields(cls, data)
        for name in ("fid_ci95", "kid_ci95"):
            data[name] = _interval(name, data.get(name))
        return cls(**data)


def _interval(name: str, value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or [type(bound) for bound in value] != [float, float]:
        raise ValueError(f"ConfirmRecord.{name}: expected two numbers, got {value!r}.")
    return value[0], value[1]
