"""Kinds of ``rivals`` with a smaller network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Fraction
from schedsearch.settings.rival_points import (
    Point,
    needs_points,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRival:
    """A smaller network cut out of the pretrained one, then fine-tuned at full depth."""

    kind: Literal["pruned"]
    depth: tuple[Count, ...] = ()
    """Blocks that stay; of a U-ViT, blocks of the encoder, whose decoder partners stay too."""
    width: tuple[Fraction, ...] = ()
    """Shares of heads and MLP units that stay (S-Pruning)."""
    choose: Literal["uniform", "bi", "greedy"] = "bi"
    """Which blocks go: evenly spaced, least influence, or least loss by the error table."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's."""
    calibration_samples: Count = 64
    """Images that choose the blocks."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per depth and per width."""
        return (*self.depth, *self.width)

    @rules
    def _rules(self) -> Iterator[Mistake]:
        yield from needs_points(self.points, "depth: [8] or width: [0.8]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallRival:
    """A smaller network of the same family, trained from scratch."""

    kind: Literal["small"]
    depth: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Blocks of the network; in a U-ViT, of encoder and decoder each."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's; ``num_steps`` of a pretraining."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per depth."""
        return self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchRival:
    """A small network for the first steps, the backbone for the rest: T-Stitch."""

    kind: Literal["stitch"]
    small: str
    """The row whose network is the small one, such as ``pruned-8``."""
    shares: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]
    """Shares of the steps, from the noise, that the small network takes."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per share."""
        return self.shares
