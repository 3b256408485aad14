"""What proposers are measured on: a table, or anything else that answers like one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from benchmarks.schedulebench.tables import Table
from schedsearch.exceptions import ConfigError
from schedsearch.pareto import REFERENCE, Point, hypervolume
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace


class Problem(Protocol):
    """A space of schedules whose truth is known."""

    @property
    def name(self) -> str:
        """Shown to people."""
        ...

    @property
    def weights(self) -> tuple[int, ...]:
        """Network calls per interval, data -> noise."""
        ...

    @property
    def space(self) -> SearchSpace:
        """What proposers see."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """Exit depths of the network, rising, that the numbers of ``space`` stand for."""
        ...

    @property
    def not_charged(self) -> str | None:
        """A sentence on what no proposer pays for; None where there is nothing."""
        ...

    @property
    def fixed_blocks(self) -> float:
        """Latency besides the blocks that a schedule chooses, in blocks."""
        ...

    @property
    def reference(self) -> Point:
        """(FID, latency) that bounds the hypervolume."""
        ...

    @property
    def best_hypervolume(self) -> float:
        """Hypervolume of the exact front of the truth."""
        ...

    def observe(self, schedule: ExitSchedule, seed: int) -> Point:
        """(FID, latency) as a search sees it that evaluates with one seed."""
        ...

    def truth(self, schedule: ExitSchedule) -> Point:
        """(FID, latency) without the seed's luck."""
        ...

    def error_table(self, seed: int) -> ErrorTable:
        """The additive proxy."""
        ...

    def charge(self, *, error_table: bool) -> int:
        """Trials that the tables cost which a proposer uses, rounded up."""
        ...


def reference_point(problem: Problem) -> Point:
    """Reference point of the hypervolume, by the factors of a run's own hypervolume.

    Latency is a little above that of full depth. FID is that of the shallowest schedule, but at
    most a multiple of full depth's.
    """
    space = problem.space
    full = problem.truth(ExitSchedule.flat(space.max_depth, space.num_intervals))
    shallow = problem.truth(ExitSchedule.flat(space.min_depth, space.num_intervals))
    return min(shallow[0], REFERENCE[0] * full[0]), REFERENCE[1] * full[1]


@dataclass(frozen=True)
class TableProblem:
    """A measured table; a search with seed s sees evaluation seed s modulo their number.

    Args:
        table: The table.
        errors: Key of the error table; None takes the first.
    """

    table: Table
    errors: str | None = None

    @property
    def name(self) -> str:
        """The table's."""
        return self.table.name

    @property
    def weights(self) -> tuple[int, ...]:
        """The table's."""
        return self.table.weights

    @property
    def space(self) -> SearchSpace:
        """The numbers of the levels."""
        return self.table.space

    @property
    def levels(self) -> tuple[int, ...]:
        """The table's."""
        return self.table.levels

    @property
    def not_charged(self) -> str | None:
        """The fine-tune behind weights that all rows share."""
        if (seconds := self.table.protocol.get("shared_seconds")) is None:
            return None
        trials = math.ceil(seconds / self.table.costs["trial"])
        clock = self.table.protocol["shared_seconds_clock"]
        return (
            f"Charged to none: the shared fine-tune behind all rows, {seconds:.0f} s ({clock}) or "
            f"{trials} trials; it makes trials this cheap for every proposer alike."
        )

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        number = {depth: place for place, depth in enumerate(self.table.levels, start=1)}
        return {
            tuple(number[depth] for depth in row): i
            for i, row in enumerate(self.table.depths.tolist())
        }

    @cached_property
    def _true_fid(self) -> list[float]:
        return [float(v) for v in self.table.fid.astype(np.float64).mean(axis=1)]

    def row(self, schedule: ExitSchedule) -> int:
        """Row of a schedule of level numbers."""
        return self._rows[schedule.depths]

    @cached_property
    def fixed_blocks(self) -> float:
        """Where the line of latency over the blocks of level numbers meets zero."""
        deep = ExitSchedule.flat(self.space.max_depth, self.space.num_intervals)
        flat = ExitSchedule.flat(self.space.min_depth, self.space.num_intervals)
        calls = sum(self.weights)
        low, high = self.truth(flat)[1], self.truth(deep)[1]
        per_block = (high - low) / (calls * (self.space.max_depth - self.space.min_depth))
        return low / per_block - calls * self.space.min_depth

    @cached_property
    def reference(self) -> Point:
        """By the truth of full depth and of the shallowest schedule."""
        return reference_point(self)

    @cached_property
    def best_hypervolume(self) -> float:
        """Of all schedules; the exact front's."""
        points = zip(self._true_fid, map(float, self.table.latency_ms), strict=True)
        return hypervolume(points, self.reference)

    def observe(self, schedule: ExitSchedule, seed: int) -> Point:
        """FID at one evaluation seed."""
        row = self.row(schedule)
        column = seed % self.table.fid.shape[1]
        return float(self.table.fid[row, column]), float(self.table.latency_ms[row])

    def truth(self, schedule: ExitSchedule) -> Point:
        """Mean FID over the seeds."""
        row = self.row(schedule)
        return self._true_fid[row], float(self.table.latency_ms[row])

    def error_table(self, seed: int) -> ErrorTable:
        """The measured one, whatever the seed.

        Raises:
            ConfigError: If the table does not hold it.
        """
        held = self.table.error_tables
        wanted = next(iter(held), None) if self.errors is None else self.errors
        if wanted not in held:
            raise ConfigError(
                f"{self.name} has no error table {wanted!r}, but {', '.join(held) or 'none'}; "
                "name one of these with --error-table."
            )
        return held[wanted]

    def charge(self, *, error_table: bool) -> int:
        """Measured CPU seconds over those of a trial.

        An error table of other weights than the rows' is charged with the fine-tune that made
        them; ``not_charged`` is not here.
        """
        seconds = self.table.costs["latency"]
        if error_table:
            seconds += self.error_table(0).seconds
        return math.ceil(seconds / self.table.costs["trial"])
