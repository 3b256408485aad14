"""Rows of ``benchmarks.gpu_latency``, and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

FULL = "full"
"""The row of full depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One measured row."""

    model: str
    row: str
    protocol: dict[str, Any]
    """Device, data type, batch, solver and guidance."""
    ms: float
    """Milliseconds of sampling one batch."""
    ratio: float
    """Median ratio to full depth in the same round."""
    half_width: float
    """Half of the 95 % interval of the ratio over rounds."""
    full_ms: float
    repeats: int
    torch: str
    held_mb: float = 0.0
    """Megabytes that the method keeps between steps, for the whole batch."""
    map_mb: float = 0.0
    """Megabytes of a plan's fitted numbers, in float32."""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line of :meth:`to_json`; ValueError when it is no such row."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"A row of another script: {error}.") from error


def table_of(rows: Sequence[GpuRow]) -> str:
    """Markdown: time as a share of full depth's, by row and batch size."""
    batches = sorted({row.protocol["batch"] for row in rows})
    by_name: dict[str, dict[int, str]] = {}
    for row in rows:
        text = f"{row.ms:.0f} ms" if row.row == FULL else f"{row.ratio:.3f} ± {row.half_width:.3f}"
        by_name.setdefault(row.row, {})[row.protocol["batch"]] = text
    memory = {row.row: f"{row.held_mb:.1f} | {row.map_mb:.1f}" for row in rows}
    heads = [*(f"batch {b}" for b in batches), "held, MB (last batch size)", "maps, MB"]
    lines = ["| row | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name, cells in by_name.items():
        times = " | ".join(cells.get(b, "-") for b in batches)
        lines.append(f"| {name} | {times} | {memory[name]} |")
    return "\n".join(lines)
