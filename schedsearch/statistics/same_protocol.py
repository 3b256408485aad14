"""Refuses to compare what was not measured alike."""

from __future__ import annotations

from collections.abc import Iterable
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


def require_same(measured: Iterable[Measured]) -> Measured:
    """The protocol that all share.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found = sorted(set(measured))
    if len(found) != 1:
        raise ValueError(
            "FIDs compare only with the same extractor, number of images and number of "
            f"fine-tune steps, but got {'; '.join(map(str, found)) or 'no measurement'}. Compare "
            "within one of them."
        )
    return found[0]
