"""The error table: validation loss per interval of diffusion time and exit depth.

Its sum over the intervals of a schedule is an additive proxy of the quality that is lost.
Dynamic programming finds the best schedule under a sum exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schedsearch.files.atomic import write_text

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """Mean validation loss of a network by interval and exit depth.

    All cells of an interval share images, noise and times. So differences along the depth are
    paired, and far more certain than single cells.
    """

    depths: tuple[int, ...]
    """Exit depths of the columns, rising."""
    losses: tuple[tuple[float, ...], ...]
    """One row per interval, data -> noise; one loss per depth."""
    standard_errors: tuple[tuple[float, ...], ...]
    """Standard errors of ``losses - losses[:, -1:]``, the paired difference to full depth."""
    exits: str
    """How the network was tuned: ``uniform``, ``schedules`` or ``pretrained`` (not at all)."""
    num_steps: int
    """Steps of that shared fine-tune."""
    num_images: int
    """Images behind each cell."""
    seed: int
    seconds: float
    """What fine-tune and table took on their worker."""

    def __post_init__(self) -> None:
        if list(self.depths) != sorted(set(self.depths)) or not self.depths:
            raise ValueError(f"An error table needs rising depths, got {self.depths}.")
        for name in ("losses", "standard_errors"):
            rows = getattr(self, name)
            if not rows or any(len(row) != len(self.depths) for row in rows):
                raise ValueError(f"ErrorTable.{name} needs {len(self.depths)} values per row.")
            if not np.isfinite(rows).all():
                raise ValueError(f"ErrorTable.{name} holds values that are not finite.")
        if len(self.losses) != len(self.standard_errors):
            raise ValueError("ErrorTable needs a standard error for every loss.")

    @property
    def num_intervals(self) -> int:
        """Rows."""
        return len(self.losses)

    def excess(self) -> Floats:
        """Loss above that of the deepest column, (num_intervals, num_depths)."""
        losses = np.array(self.losses)
        excess: Floats = losses - losses[:, -1:]
        return excess

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``asdict`` gave; ValueError or TypeError when it is no error table."""
        values = dict(data)
        values["depths"] = tuple(int(depth) for depth in values["depths"])
        for name in ("losses", "standard_errors"):
            values[name] = tuple(tuple(float(v) for v in row) for row in values[name])
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of :meth:`save`.

        Raises:
            OSError: If there is no such file.
            ValueError: If it is no error table.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no error table: {error}.") from error
