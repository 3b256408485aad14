"""What is kept of every trial and measurement: plain data, one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Self

from schedsearch.objectives import Evaluation
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.files.strict_json import check_fields, read_object


class TrialState(StrEnum):
    """How a trial ended; an interrupted one is no record, its schedule runs again."""

    COMPLETE = "complete"
    FAILED = "failed"


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
