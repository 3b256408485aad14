"""Finished comparisons of one protocol, shown as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import ConfigError
from schedsearch.pareto import non_dominated
from schedsearch.runs.methods.entry import method_row
from schedsearch.settings.rows import FULL

if TYPE_CHECKING:
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.methods.results import MethodResults


class JoinedMethods:
    """All methods of some runs; each entry names its run.

    Times are compared as shares of full depth's in the same run, since milliseconds of two days
    do not compare.

    Args:
        parts: Comparisons by the run folder as people type it.

    Raises:
        ConfigError: If the runs have unequal protocols.
    """

    def __init__(self, parts: Mapping[str, MethodResults]) -> None:
        check_comparable(parts)
        self.parts = dict(parts)
        names = list(self.parts) if len(parts) > 1 else [part.title for part in parts.values()]
        self.title = ", ".join(names)
        self.entries = [replace(e, run=run) for run, part in parts.items() for e in part.entries]

    def all(self) -> list[MethodEntry]:
        """Rows with a latency, and the schedules of the searches, by time."""
        found = [replace(e, run=run) for run, part in self.parts.items() for e in part.all()]
        return sorted(found, key=lambda entry: entry.ratio or 0.0)

    def front(self) -> list[MethodEntry]:
        """The Pareto front of all runs, full depth always among them."""
        entries = self.all()
        best = set(non_dominated([(entry.fid, entry.ratio or 0.0) for entry in entries]))
        return [e for i, e in enumerate(entries) if i in best or e.name == FULL]

    def as_rows(self) -> list[dict[str, Any]]:
        """All methods as plain data with their run, by time."""
        full = {run: part.full() for run, part in self.parts.items()}
        return [{"run": e.run, **method_row(e, full[e.run])} for e in self.all()]


def check_comparable(results: Mapping[str, MethodResults]) -> None:
    """Refuse runs whose values mean different things.

    Args:
        results: Comparisons by the name of their folder.

    Raises:
        ConfigError: With what differs.
    """
    (first, ours), *others = results.items()
    for name, theirs in others:
        for key, value in ours.protocol.items():
            if theirs.protocol[key] != value:
                raise ConfigError(
                    f"Methods compare by one protocol, but {first} and {name} differ in their "
                    f"{key} protocol: {value} and {theirs.protocol[key]}. Measure both alike."
                )
        batches = {entry.name: entry.first.decision_batch for entry in theirs.entries}
        for entry in ours.entries:
            batch = entry.first.decision_batch
            if (other := batches.get(entry.name, batch)) != batch:
                raise ConfigError(
                    f"Methods compare by one protocol, but {first} and {name} differ in the "
                    f"decision batch of {entry.name}: {_images(batch)} and {_images(other)}. Use "
                    "the same evaluation.batch_size and decide."
                )


def _images(decision_batch: int | None) -> str:
    return "each image by itself" if decision_batch is None else f"{decision_batch} images"
