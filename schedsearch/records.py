"""What is kept of every trial and measurement: plain data, one JSON line each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Literal, Self

from schedsearch.files.strict_json import check_fields, check_line, read_object, to_line
from schedsearch.schedules.exit_schedule import ExitSchedule


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective of the search; both are minimised."""

    name: str
    unit: str


OBJECTIVES = (Objective("fid", ""), Objective("latency_ms", "ms"))
"""Study order: FID, then the latency of sampling one batch."""

LatencySource = Literal["predicted", "measured"]


class TrialState(StrEnum):
    """How a trial ended; an interrupted one is no record, its schedule runs again."""

    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Quality and cost of one fine-tuned schedule, with their protocol.

    Two evaluations compare only when ``protocol`` is equal; FID is biased in the number of
    samples, so ``num_samples`` belongs to it.
    """

    fid: float
    """Frechet distance between the features of samples and of the reference images."""
    kid: float
    """Kernel distance (unbiased MMD, cubic kernel) on the same features; also at small n."""
    latency_ms: float
    """Milliseconds to sample one batch of ``evaluation.latency_batch`` images."""
    latency_source: LatencySource
    """``predicted`` from the latency table, or ``measured`` on a device of the trial's own."""
    nfe: int
    """Network calls per image, guidance not counted."""
    num_samples: int
    features: str
    """Name of the feature extractor."""
    protocol: str
    """Digest of everything that must agree for two values to compare."""
    sample_std: float
    """Pixel standard deviation of the samples; few-step solvers can hide damage in FID."""
    reference_std: float
    """The same of the reference images."""
    nn_distance: float | None = None
    """Mean distance to the nearest training image: Euclidean over all pixels in [-1, 1]. None
    where pixels are not compared."""
    near_copies: float | None = None
    """Share of samples within the radius of near copies of a training image."""
    class_accuracy: float | None = None
    """Share of samples that the extractor recognises as their label, where it can tell."""

    @property
    def values(self) -> tuple[float, float]:
        """(FID, latency in ms), the order of the study."""
        return self.fid, self.latency_ms

    def non_finite(self) -> str | None:
        """Name of the first value that is not a finite number, or None."""
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                return name
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """Outcome of a trial; ``evaluation`` is set exactly when the state is complete."""

    number: int
    depths: tuple[int, ...]
    edges: tuple[float, ...] | None = None
    """Edges of the schedule's intervals; None for equal ones."""
    label: str | None = None
    origin: str | None = None
    """As in the job: ``dp`` for an optimum of the error table."""
    state: TrialState
    evaluation: Evaluation | None = None
    stage: str | None = None
    """Stage that failed: load, fine-tune, sample, fid, latency, save or worker."""
    reason: str | None = None
    """Why it failed, one line."""
    started: str
    """UTC time, ISO 8601."""
    seconds: float
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    training_seconds: float = 0.0
    """CPU-seconds of the fine-tune, those of interrupted attempts included."""
    worker: str = ""
    """Host and process."""
    device: str = ""
    final_loss: float | None = None
    accumulate: int | None = None
    """Parts of a batch, where memory ran out and the recipe's number was raised."""
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
        return ExitSchedule(self.depths, self.edges)

    def to_json(self) -> str:
        """One line of JSON with its checksum."""
        return to_line(asdict(self))

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
        if not isinstance(edges := data.get("edges"), list | None):
            raise ValueError(f"TrialRecord.edges: expected a list or null, got {edges!r}.")
        schedule = ExitSchedule(tuple(data["depths"]), None if edges is None else tuple(edges))
        data["depths"], data["edges"] = schedule.depths, schedule.edges
        data["state"] = TrialState(data["state"])
        record = cls(**data)
        check_line(line)
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmRecord:
    """Quality of a finished trial's schedule at one held-out evaluation seed."""

    number: int
    """Trial number."""
    seed: int
    """Evaluation seed."""
    num_samples: int
    fid: float
    kid: float
    sample_std: float
    features: str
    training_seed: int | None = None
    """Seed of the retrained weights; None for the trial's own."""
    audit_fid: float | None = None
    """FID of the same images by ``evaluation.auditor``, which chooses nothing."""
    audit_features: str | None = None
    """The auditor's name."""
    nn_distance: float | None = None
    """As in :class:`Evaluation`."""
    near_copies: float | None = None
    """As in :class:`Evaluation`."""

    def to_json(self) -> str:
        """One line of JSON with its checksum."""
        return to_line(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line of :meth:`to_json`; ValueError when it is no such record."""
        data = read_object(line, "A confirmation")
        check_fields(cls, data)
        check_line(line)
        return cls(**data)
