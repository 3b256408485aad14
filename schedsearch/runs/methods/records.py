"""What is kept of every row of a comparison: one line of ``rivals.jsonl`` each."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from schedsearch.files.strict_json import check_fields, check_line, read_object, to_line


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedQuality:
    """Quality at one evaluation seed."""

    seed: int
    fid: float
    kid: float
    sample_std: float
    audit_fid: float | None = None
    class_accuracy: float | None = None
    nn_distance: float | None = None
    """Mean distance to the nearest training image, as in a trial's evaluation."""
    near_copies: float | None = None
    """Share of near copies of training images, as in a trial's evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalRecord:
    """Outcome of one row with one training seed; ``qualities`` is empty where it failed."""

    name: str
    entry: str
    kind: str
    training_seed: int | None
    """Seed of the trained network; None where nothing is trained."""
    config_sha256: str
    """Digest of everything that the row depends on; another one makes it run again."""
    protocol: str = ""
    """Digest of all that must agree for two values of FID to compare, at the search's seed."""
    qualities: tuple[SeedQuality, ...] = ()
    num_samples: int = 0
    """Images at the search's seed."""
    confirm_samples: int | None = None
    """Images at each held-out seed; None means ``num_samples``."""
    features: str = ""
    audit_features: str | None = None
    decision_batch: int | None = None
    """Images that decide together; None where each decides by itself, or none does."""
    reference_std: float | None = None
    """Pixel standard deviation of the reference images."""
    share: float = 0.0
    """Blocks run / all blocks, mean over the network calls of full depth's solver."""
    macs: int = 0
    """Multiply-accumulates of one image's sampling run, with everything that runs."""
    full_macs: int = 0
    """The same of full depth with the space's solver."""
    extra_parameters: int = 0
    """Parameters beyond those of the backbone; negative for a smaller network."""
    held_bytes: int = 0
    """Bytes kept between steps, per image."""
    time_share: float | None = None
    """Share of the variance of the exit depth that the solver step explains."""
    training_samples: int = 0
    training_seconds: float = 0.0
    """CPU-seconds of training, or of choosing blocks."""
    calibration_samples: int = 0
    """Images that the calibration sampled."""
    calibration_seconds: float = 0.0
    steps: tuple[str, ...] = ()
    """Steps of a plan, from noise to data; empty for other methods."""
    note: str = ""
    """What the calibration says: a target that was not reached, a fit."""
    failed: str | None = None
    """Why there is no result, one line."""
    seconds: float = 0.0
    worker: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def fid(self) -> float:
        """FID at the search's evaluation seed, the first one."""
        return self.qualities[0].fid

    @property
    def mean_fid(self) -> float:
        """Mean over the evaluation seeds."""
        return statistics.fmean(quality.fid for quality in self.qualities)

    def to_json(self) -> str:
        """One line of JSON with its checksum."""
        return to_line(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line of :meth:`to_json`; ValueError when it is no such record."""
        data = read_object(line, "A row of a comparison")
        qualities, steps = data.pop("qualities", []), data.get("steps", [])
        if not isinstance(qualities, list) or not isinstance(steps, list):
            raise ValueError("RivalRecord.qualities and steps are lists.")
        data["steps"] = tuple(steps)
        check_fields(cls, {**data, "qualities": ()})
        for quality in qualities:
            check_fields(SeedQuality, quality)
        check_line(line)
        return cls(**data, qualities=tuple(SeedQuality(**quality) for quality in qualities))


def newest(records: Iterable[RivalRecord]) -> list[RivalRecord]:
    """The last record of every row and training seed: the one whose files are there."""
    return list({(record.name, record.training_seed): record for record in records}.values())
