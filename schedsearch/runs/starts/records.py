"""What exit adapters are, and how both starts of a fine-tune were judged."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from schedsearch.files.atomic import write_text
from schedsearch.files.strict_json import check_fields, read_document, to_document
from schedsearch.formatting import rounded
from schedsearch.statistics.paired import paired_difference

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record of its own file."""

    made_from: str
    """Digest of all settings that it depends on."""
    weights: str
    """Fingerprint of the pretrained weights."""

    @classmethod
    def read(cls, path: Path, place: str | None = None) -> Self | None:
        """Read a file; None where there is none, or it is damaged, or belongs elsewhere."""
        try:
            data = read_document(path, place)
            check_fields(cls, data)
            return cls(**data)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path, place: str | None = None) -> None:
        """Write it atomically; its checksum names the place.

        Raises:
            OSError: If the disk fails.
        """
        write_text(path, to_document(dataclasses.asdict(self), place))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptersRecord(Record):
    """``adapters.json``: what the fitted adapters are, and what they took."""

    sha256: str
    """Of the file beside it."""
    exits: list[int]
    num_images: int
    """Images sampled at full depth, whose tokens the maps fit."""
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord(Record):
    """A schedule fine-tuned from one start, by two judges at held-out seeds."""

    start: str
    adapters_sha256: str | None
    """Of the adapters that it started from; None for a plain start."""
    label: str
    depths: list[int]
    num_steps: int
    num_samples: int
    fids: list[float] = dataclasses.field(default_factory=list)
    """By seed; empty where the fine-tune failed."""
    audit_fids: list[float] = dataclasses.field(default_factory=list)
    failed: str | None = None
    """Why there is no result, one line."""
    cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        values = [*self.fids, *self.audit_fids]
        if any(type(value) is not float for value in values):
            raise ValueError(f"FIDs are numbers, got {values}.")
        if bool(self.fids) == bool(self.failed) or len(self.fids) != len(self.audit_fids):
            raise ValueError("A record has FIDs of both judges exactly where nothing failed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCheck:
    """Both starts of the same schedule, with the same training seed and noise."""

    plain: StartRecord
    adapters: StartRecord

    @property
    def keeps_adapters(self) -> bool:
        """Whether no judge calls adapters worse, and both together call them better.

        Worse is a paired 95 % interval above zero. Together means the product of both ratios of
        mean FIDs, since one judge's mean over few seeds may go up by chance.
        """
        if self.adapters.failed is not None or self._is_worse:
            return False
        ratios = [found / max(before, 1e-12) for before, found in self._means]
        return math.prod(ratios) < 1.0

    @property
    def sentence(self) -> str:
        """What was decided and why, for people."""
        if self.adapters.failed is not None:
            return (
                "Fine-tunes start from plain exits: the check's fine-tune from adapters failed "
                f"({self.adapters.failed.rstrip('.')})."
            )
        (fid, own), (audit, own_audit) = self._means
        seeds, num = len(self.plain.fids), self.plain.num_samples
        shown = (
            f"{self.plain.label} gets FID {rounded(own)} instead of {rounded(fid)}, auditor's FID "
            f"{rounded(own_audit)} instead of {rounded(audit)} ({seeds} held-out seeds, n={num})"
        )
        if self.keeps_adapters:
            return f"Fine-tunes start from exit adapters: {shown}."
        why = "a judge calls adapters worse" if self._is_worse else "adapters do not help"
        return f"Fine-tunes start from plain exits, as {why}: {shown}."

    @property
    def _is_worse(self) -> bool:
        """Whether the paired 95 % interval of a judge lies above zero."""
        found = (
            paired_difference(dict(enumerate(adapters)), dict(enumerate(plain)))
            for plain, adapters in (
                (self.plain.fids, self.adapters.fids),
                (self.plain.audit_fids, self.adapters.audit_fids),
            )
        )
        return any(judge is not None and judge.verdict == "worse" for judge in found)

    @property
    def _means(self) -> tuple[tuple[float, float], ...]:
        """FID and the auditor's FID, each of the plain start and with adapters."""
        judges = ("fids", "audit_fids")
        return tuple(
            (
                statistics.fmean(getattr(self.plain, judge)),
                statistics.fmean(getattr(self.adapters, judge)),
            )
            for judge in judges
        )
