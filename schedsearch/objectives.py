"""What a schedule is judged by, and the numbers of one evaluation with their protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective of the search; both are minimised."""

    name: str
    unit: str


OBJECTIVES = (Objective("fid", ""), Objective("latency_ms", "ms"))
"""Study order: FID, then the latency of sampling one batch."""


class HasProtocol(Protocol):
    """What an FID depends on."""

    @property
    def features(self) -> str:
        """Name of the feature extractor."""
        ...

    @property
    def num_samples(self) -> int:
        """Images."""
        ...

    @property
    def num_finetunes(self) -> int:
        """FIDs that it is the mean of, each of so many images and a fine-tune of its own."""
        ...

    @property
    def control_samples(self) -> int:
        """Images that correct it; 0 for none."""
        ...


def fid_title(of: HasProtocol) -> str:
    """How an FID is called: what it depends on belongs to the number."""
    seeds = f", {of.num_finetunes} fine-tunes" if of.num_finetunes > 1 else ""
    control = f", control n={of.control_samples}" if of.control_samples else ""
    return f"FID ({of.features}, n={of.num_samples}{seeds}{control})"


LatencySource = Literal["predicted", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Quality and cost of one fine-tuned schedule, with the protocol they were measured by.

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
    class_accuracy: float | None = None
    """Share of samples that the extractor recognises as their label, where it can tell."""
    control_samples: int = 0
    """Images at full depth that ``fid`` is corrected by; 0 for a plain FID. The two do not
    compare."""
    num_finetunes: int = 1
    """Fine-tunes, each with a training and an evaluation seed of its own, that ``fid``, ``kid``
    and the other figures of quality are means over."""

    @property
    def values(self) -> tuple[float, float]:
        """(FID, latency in ms), the order of the study."""
        return self.fid, self.latency_ms

    def non_finite(self) -> str | None:
        """Name of the first objective that is not a finite number, or None."""
        for objective, value in zip(OBJECTIVES, self.values, strict=True):
            if not math.isfinite(value):
                return objective.name
        return None
