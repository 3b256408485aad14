"""Cheap measurements for the tests of the analyses."""

from __future__ import annotations

from benchmarks.paper_analyses.analyses import FULL
from benchmarks.paper_analyses.cases import Measurement, solver

THREE_STEPS = solver("dpm_solver", 3)  # calls in the intervals 9, 6 and 3


def row(name: str, **fields: object) -> Measurement:
    """A row of full depth at three solver steps, unless ``fields`` say otherwise."""
    values = {"group": "g", "depths": FULL, "solver": THREE_STEPS, **fields}
    return Measurement(row=name, **values)  # type: ignore[arg-type]
