"""The error table: loss per interval of diffusion time and exit depth.

The sum over the intervals of a schedule is an additive proxy of its quality loss. Dynamic
programming finds the exact optimum of such a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schedsearch.files.atomic import write_text
from schedsearch.files.strict_json import read_document, to_document

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """Mean loss of a network by interval and exit depth.

    All cells of an interval share images, noise and times. So differences along the depth are
    paired, and much more precise than single cells.
    """

    depths: tuple[int, ...]
    """Exit depths of the columns, in increasing order."""
    losses: tuple[tuple[float, ...], ...]
    """One row per interval, from data to noise; one loss per depth."""
    standard_errors: tuple[tuple[float, ...], ...]
    """Standard errors of ``losses - losses[:, -1:]``, the paired difference to full depth."""
    exits: str
    """``schedules`` after the shared fine-tune, ``pretrained`` without one, ``adapters`` where
    exits run through fitted maps."""
    num_steps: int
    """Steps of the shared fine-tune."""
    num_images: int
    """Images per cell."""
    seed: int
    seconds: float
    """Seconds of fine-tune and measurement."""

    def __post_init__(self) -> None:
        if list(self.depths) != sorted(set(self.depths)) or not self.depths:
            raise ValueError(f"An error table needs increasing depths, got {self.depths}.")
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
        """Number of rows."""
        return len(self.losses)

    def excess(self) -> Floats:
        """Return the loss minus that of the deepest exit, (num_intervals, num_depths)."""
        losses = np.array(self.losses)
        excess: Floats = losses - losses[:, -1:]
        return excess

    def save(self, path: Path, place: str | None = None) -> None:
        """Write the table as JSON, atomically; its checksum names the place, if there is one."""
        write_text(path, to_document(asdict(self), place))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a table from the output of ``asdict``.

        Raises:
            KeyError: If the depths, losses or standard errors are missing.
            TypeError: If another field is missing, or a value has the wrong type.
            ValueError: If the values are no error table.
        """
        values = dict(data)
        values["depths"] = tuple(int(depth) for depth in values["depths"])
        for name in ("losses", "standard_errors"):
            values[name] = tuple(tuple(float(v) for v in row) for row in values[name])
        return cls(**values)

    @classmethod
    def load(cls, path: Path, place: str | None = None) -> Self:
        """Read a file written by :meth:`save`.

        Args:
            path: The file.
            place: Where it must belong; None takes any.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file holds no error table, or belongs elsewhere.
        """
        try:
            return cls.from_dict(read_document(path, place))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            reason = str(error).rstrip(".")
            raise ValueError(f"{path} is not an error table: {reason}.") from error
