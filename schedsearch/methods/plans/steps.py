"""The steps of a plan, and their text form: ``F``, ``R0``, ``G5``, ``M0``, ``X7``, ``A7``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

StepKind = Literal["full", "reuse", "exit"]
Fit = Literal["plain", "diagonal", "map"]

_LETTERS: dict[tuple[StepKind, Fit], str] = {
    ("full", "plain"): "F",
    ("reuse", "plain"): "R",
    ("reuse", "diagonal"): "G",
    ("reuse", "map"): "M",
    ("exit", "plain"): "X",
    ("exit", "map"): "A",
}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_TEXT = re.compile(r"F|[RGMXA](0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What one network call of a plan runs."""

    kind: StepKind
    blocks: int = 0
    """Blocks that run before the cached residual or the exit; not used by ``full``."""
    fit: Fit = "plain"
    """How the tokens are corrected: not at all, per channel, or by a linear map."""

    def __post_init__(self) -> None:
        if (self.kind, self.fit) not in _LETTERS or self.blocks < 0:
            raise ValueError(f"no step is {self.kind}, {self.fit}, with {self.blocks} blocks")
        if self.kind == "full" and self.blocks != 0:
            raise ValueError(f"leave out the blocks of a full step, got {self.blocks}")

    def __str__(self) -> str:
        letter = _LETTERS[self.kind, self.fit]
        return letter if self.kind == "full" else f"{letter}{self.blocks}"

    @property
    def is_fitted(self) -> bool:
        """Whether the step needs numbers from the calibration."""
        return self.fit != "plain"

    @classmethod
    def parse(cls, text: str) -> PlanStep:
        """Read the text form.

        Raises:
            ValueError: If it is no step.
        """
        if not _TEXT.fullmatch(text):
            raise ValueError(f"a step is F, or R, G, M, X or A and its blocks, got {text!r}")
        kind, fit = _KINDS[text[0]]
        return cls(kind, int(text[1:] or 0), fit)


FULL_STEP = PlanStep("full")
