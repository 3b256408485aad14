"""What an enabled model ran so far, as data and as a table for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schedsearch.apply.attachment import Attachment
from schedsearch.schedules.exit_schedule import ExitSchedule

RECOMPILE_LIMIT = 8
"""Graphs that ``torch.compile`` keeps of one function by default."""

MOST_SHOWN = 20
"""Times of a run that the table shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Calls of an enabled model since ``enable``."""

    model: str
    """Class of the model."""
    family: str
    num_blocks: int
    """Blocks that a schedule may skip."""
    schedule: ExitSchedule
    calls: Mapping[int, int]
    """Calls by the number of blocks that they ran, deepest first."""
    last_run: tuple[tuple[float, int], ...]
    """Clock time and blocks of every call of the last run.

    The clock is 0 at the data and 1000 at the noise. Times are those of the calls, whatever the
    settings of a scheduler say. A run begins where the time rises.
    """
    notes: tuple[str, ...] = ()

    @property
    def last_clock(self) -> float | None:
        """Clock time of the last call."""
        return self.last_run[-1][0] if self.last_run else None

    @property
    def num_calls(self) -> int:
        """Calls of the model."""
        return sum(self.calls.values())

    @property
    def blocks_run(self) -> int:
        """Blocks that these calls ran."""
        return sum(depth * calls for depth, calls in self.calls.items())

    @property
    def blocks_full(self) -> int:
        """Blocks that they would have run at full depth."""
        return self.num_blocks * self.num_calls

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.model} ({self.family}), {self.num_blocks} blocks"
        yield f"blocks, data -> noise: {self.schedule}"
        edges = getattr(self.schedule, "edges", None)
        if edges is not None:
            yield "edges of the intervals: " + " ".join(f"{edge:.4g}" for edge in edges)
        if self.num_calls:
            yield "blocks  calls"
            yield from (f"{depth:>6}  {calls:>5}" for depth, calls in self.calls.items())
            saved = 1 - self.blocks_run / self.blocks_full
            yield f"blocks run: {self.blocks_run} of {self.blocks_full} ({saved:.1%} saved)"
            yield "clock times of the last run: " + _shown([clock for clock, _ in self.last_run])
        yield from (f"note: {note}" for note in self.notes)


def _shown(clocks: list[float]) -> str:
    """Times of a run, the middle of a long one left out."""
    words = [f"{clock:.4g}" for clock in clocks]
    return " ".join(words if len(words) <= MOST_SHOWN else [*words[:8], "...", *words[-8:]])


def summarise(attachment: Attachment, *, is_compiled: bool) -> Summary:
    """Sum up an attachment.

    Args:
        attachment: State of an enabled model.
        is_compiled: Whether ``torch.compile`` takes the model as a whole.
    """
    return Summary(
        model=attachment.family.class_name,
        family=attachment.family.name,
        num_blocks=attachment.num_blocks,
        schedule=attachment.schedule,
        calls=dict(sorted(attachment.calls.items(), reverse=True)),
        last_run=tuple(attachment.last_run),
        notes=tuple(_notes(attachment, is_compiled)),
    )


def _notes(attachment: Attachment, is_compiled: bool) -> Iterator[str]:
    if not attachment.calls:
        yield "no call of the model so far, so the schedule had no effect yet"
    elif attachment.highest_clock <= 1.0 and attachment.calls.total() > 1:
        yield (
            f"every clock time so far lies in [{attachment.lowest_clock:g}, "
            f"{attachment.highest_clock:g}], as if the model were fed sigma; see enable(time=...)"
        )
    num_depths, limit = len(set(attachment.schedule.depths)), _recompile_limit()
    if is_compiled:
        yield (
            f"the model is compiled as a whole, one graph per depth ({num_depths}); compiled "
            "blocks need one for all depths"
        )
        if num_depths > limit:
            yield (
                f"torch.compile keeps {limit} graphs, so some depths run uncompiled; compile the "
                "blocks instead"
            )


def _recompile_limit() -> int:
    dynamo = sys.modules.get("torch._dynamo")
    return getattr(getattr(dynamo, "config", None), "recompile_limit", RECOMPILE_LIMIT)
