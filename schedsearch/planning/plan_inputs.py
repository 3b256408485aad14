"""What the search of plans is given: choices per step, their errors and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChoice:
    """What one solver step runs."""

    kind: Literal["full", "reuse", "exit"]
    blocks: int  # all blocks, the prefix of a reuse, or the depth of an exit
    age: int = 0  # of a reuse: steps since the last full step, >= 1

    def __post_init__(self) -> None:
        if self.age < 0 or (self.age >= 1) != (self.kind == "reuse"):
            raise ValueError(f"A reuse has an age >= 1, other steps have age 0, got {self}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanErrors:
    """Errors of all choices at all steps; ``inf`` means not offered."""

    weights: Floats  # (num_steps,)
    reuse: Floats  # (num_steps, num_prefixes, max_age); the last index is age - 1
    prefixes: tuple[int, ...]  # blocks run by a reuse, increasing
    exits: Floats  # (num_steps, num_exits)
    exit_depths: tuple[int, ...]  # blocks run by an exit, increasing

    def __post_init__(self) -> None:
        shape = np.shape(self.weights)
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(f"Step weights need shape (num_steps,), got shape {shape}.")
        shape, rows = np.shape(self.reuse), (*shape, len(self.prefixes))
        if len(shape) != 3 or shape[:2] != rows:
            raise ValueError(f"Reuse errors need shape (*{rows}, max_age), got shape {shape}.")
        shape, rows = np.shape(self.exits), (rows[0], len(self.exit_depths))
        if shape != rows:
            raise ValueError(f"Exit errors need shape {rows}, got shape {shape}.")
        _require_nonnegative("Step weights", self.weights, finite=True)
        _require_nonnegative("Reuse errors", self.reuse)
        _require_nonnegative("Exit errors", self.exits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCosts:
    """Milliseconds of all choices. The cost of a reuse may depend on its fit."""

    num_blocks: int
    full_ms: float  # one full call
    reuse_ms: Floats  # (num_steps, num_prefixes, max_age), or (num_prefixes, 1)
    exit_ms: Floats  # (num_steps, num_exits), or (num_exits,)
    fixed_ms: float = 0.0  # the rest of a sampling run

    def __post_init__(self) -> None:
        if self.num_blocks < 1:
            raise ValueError(f"A network has at least one block, got {self.num_blocks=}.")
        for name in ("full_ms", "reuse_ms", "exit_ms", "fixed_ms"):
            _require_nonnegative(name, getattr(self, name), finite=True)


def _require_nonnegative(name: str, values: ArrayLike, *, finite: bool = False) -> None:
    array = np.asarray(values, dtype=np.float64)
    # NOTE: NaN is not >= 0.
    wrong = array[~(array >= 0) | (np.isinf(array) if finite else False)]
    if wrong.size:
        rule = "finite numbers >= 0" if finite else "numbers >= 0, or inf"
        raise ValueError(f"{name} must be {rule}, got {wrong[0]}.")
