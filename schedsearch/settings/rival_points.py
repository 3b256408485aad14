"""Operating points of rivals, and types that several kinds share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake

Depths = tuple[Annotated[int, Field(ge=0)], ...]
Threshold = Annotated[float, Field(ge=0)]
Decide = Literal["sample", "batch"]
ExitLayers = Literal["decoder", "all"]
Part = Literal["attention", "mlp"]

Point = str | int | float
"""One operating point of an entry: a target, a threshold, a ratio, a schedule, ..."""


def raw(threshold: float) -> str:
    """The name of a point that is a threshold, not a target."""
    return f"t{threshold:g}"


def needs_points(points: tuple[Point, ...], example: str) -> Iterator[Mistake]:
    """The mistake of an entry without points."""
    if not points:
        yield "", "has no operating point", f"add one, for example {example}"
