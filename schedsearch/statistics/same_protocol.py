"""What must agree for two FIDs to compare; the others are left out of comparisons."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Measured:
    """What two FIDs must share before one may be taken from the other."""

    features: str
    """Name of the extractor."""
    num_samples: int
    """FID is biased in it."""
    num_steps: int = 0
    """Steps by which the fine-tune was continued before the measurement."""

    def __str__(self) -> str:
        return f"{self.features}, n={self.num_samples}, {self.num_steps} further steps"
