"""The section ``plan``: plans of blocks, reuse and exits; no training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Fraction

PLAN = "plan"
"""Key of the section, and the entry of its rows."""

_POINT = re.compile(r"(b?)(0?\.\d+)(?:-(\d+)steps)?")


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What one plan is made for; its text form names the row."""

    share: float
    of: Literal["latency", "blocks"] = "latency"
    num_steps: int | None = None
    """Solver steps, where they are not the space's."""

    def __str__(self) -> str:
        steps = "" if self.num_steps is None else f"-{self.num_steps}steps"
        return f"{'b' if self.of == 'blocks' else ''}{self.share:g}{steps}"

    @classmethod
    def parse(cls, text: str) -> PlanTarget:
        """Read the text form.

        Raises:
            ValueError: If it is none.
        """
        found = _POINT.fullmatch(text)
        if found is None:
            raise ValueError(f"a target of a plan is a share such as 0.62 or b0.62, got {text!r}")
        steps = None if found[3] is None else int(found[3])
        return cls(float(found[2]), "blocks" if found[1] else "latency", steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """Plans to measure before any fine-tune; calibrated on sampling runs, without training."""

    targets: tuple[Fraction, ...] = (0.8, 0.62, 0.45, 0.35)
    """Shares of full depth's measured latency."""
    target_blocks: tuple[Fraction, ...] = ()
    """Shares of full depth's blocks."""
    num_steps: tuple[Count, ...] = ()
    """Further numbers of solver steps to plan for, below the solver's."""
    fit_images: Annotated[int, Field(ge=8)] = 96
    """Images that fit what corrects a reused residual or an exit."""
    table_images: Annotated[int, Field(ge=8)] = 48
    """Further images that measure the error of every choice."""
    weight_images: Annotated[int, Field(ge=8)] = 32
    """Further images that weigh the steps."""
    max_age: Annotated[int, Field(ge=1, le=20)] = 3
    """Oldest residual that may be reused, in steps."""

    @property
    def points(self) -> tuple[str, ...]:
        """One row per target, then per target and further number of steps."""
        targets = [PlanTarget(share) for share in self.targets]
        targets += [PlanTarget(share, "blocks") for share in self.target_blocks]
        more = [
            PlanTarget(target.share, target.of, steps)
            for steps in self.num_steps
            for target in targets
        ]
        return tuple(map(str, (*targets, *more)))

    @property
    def kind(self) -> str:
        """Kind of the method files."""
        return PLAN

    @rules
    def _rules(self) -> Iterator[Mistake]:
        if not (self.targets or self.target_blocks):
            yield "targets", "has no target", "add one, for example targets: [0.62]"
        for key in ("targets", "target_blocks", "num_steps"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                yield key, "names a value twice", "remove one"
