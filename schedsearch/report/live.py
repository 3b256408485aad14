"""The progress of a run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from schedsearch.formatting import duration, fid_title, rounded
from schedsearch.pareto import non_dominated

if TYPE_CHECKING:
    from schedsearch.records import TrialRecord
    from schedsearch.workers.jobs import TrialJob

_SHOWN_FRONT, _SHOWN_RUNNING = 8, 12

Hypervolume = Callable[[Sequence["TrialRecord"]], float | None]


class RunView:
    """Follows a run; meets ``runners.contracts.Observer`` and is a context manager.

    Args:
        console: Where to write; standard error, so that results alone go to standard output.
        hypervolume: Hypervolume of finished trials.
        quiet: Write failures and warnings only.
    """

    def __init__(self, console: Console, hypervolume: Hypervolume, *, quiet: bool = False) -> None:
        self._console = console
        self._hypervolume = hypervolume
        self._quiet = quiet
        self._title = "starting"
        self._total: int | None = None
        self._expected: float | None = None
        self._done = 0
        self._began = time.monotonic()
        self._first_done = 0
        self._num_failed = 0
        self._num_interrupted = 0
        self._running: dict[int, tuple[TrialJob, float]] = {}
        self._records: list[TrialRecord] = []
        self._volume: tuple[int, float | None] = (0, None)
        self._live: Live | None = None

    def __enter__(self) -> RunView:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(
                get_renderable=self._render, console=self._console, refresh_per_second=4
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    # ---- Observer -------------------------------------------------------------------------

    def stage(self, title: str, total: int | None = None, seconds: float | None = None) -> None:
        """A stage begins."""
        self._title, self._total, self._expected = title, total, seconds
        self._done = self._first_done = 0
        self._began = time.monotonic()
        count = f" ({total})" if total else ""
        takes = f", about {duration(seconds)}" if seconds else ""
        self._line(f"{title}{count}{takes}", style="bold")

    def message(self, text: str) -> None:
        """Something worth a line."""
        self._line(text)

    def warning(self, text: str) -> None:
        """Something that the user should act on."""
        self._console.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)

    def resumed(self, records: Sequence[TrialRecord]) -> None:
        """Trials of an earlier start."""
        self._records = list(records)
        self._done = self._first_done = len({r.depths for r in records if r.complete})
        if records:
            self._line(f"resuming with {self._done} finished trials")

    def started(self, job: TrialJob) -> None:
        """A trial was handed to a worker."""
        self._running[job.number] = (job, time.monotonic())
        if self._live is None:
            self._line(f"trial {job.number} started: {_title(job)} [{job.schedule}]")

    def finished(self, record: TrialRecord) -> None:
        """A trial ended."""
        self._running.pop(record.number, None)
        self._records.append(record)
        if record.evaluation is None:
            self._num_failed += 1
            self._console.print(
                Text(
                    f"trial {record.number} failed in {record.stage}: {record.reason} "
                    f"(trials/{record.number:04d}/log.txt)",
                    style="red",
                ),
                soft_wrap=True,
            )
            return
        self._done += 1
        if self._live is None:
            e = record.evaluation
            self._line(
                f"trial {record.number} done ({self._done}/{self._total}): "
                f"FID {rounded(e.fid)}, {e.latency_ms:.1f} ms, {record.seconds:.0f} s{self._eta()}"
            )

    def interrupted(self, job: TrialJob, reason: str) -> None:
        """A trial was lost; its schedule runs again."""
        self._running.pop(job.number, None)
        self._num_interrupted += 1
        self._line(f"trial {job.number} interrupted: {reason}; its schedule runs again")

    def advanced(self) -> None:
        """A job of another stage ended."""
        self._done += 1

    # ---- drawing --------------------------------------------------------------------------

    def _line(self, text: str, style: str = "") -> None:
        if not self._quiet:
            self._console.print(Text(text, style=style), soft_wrap=True)

    def _eta(self) -> str:
        left = time_left(
            elapsed=time.monotonic() - self._began,
            done=self._done - self._first_done,
            running=len(self._running),
            wanted=(self._total or 0) - self._first_done,
            expected=self._expected,
        )
        return f", about {duration(left)} left" if left is not None and left > 0.5 else ""

    def _render(self) -> RenderableType:
        status = Table.grid(padding=(0, 2))
        counts = f"{self._done}/{self._total}" if self._total else ""
        bar: RenderableType = ""
        if self._total:
            bar = ProgressBar(total=self._total, completed=self._done, width=30)
        elapsed = duration(time.monotonic() - self._began)
        status.add_row(Text(self._title, style="bold"), bar, counts, f"{elapsed}{self._eta()}")
        parts: list[RenderableType] = [status]
        if self._records or self._running:
            parts += [self._summary(), self._running_table(), self._front_table()]
        return Group(*parts)

    def _summary(self) -> Text:
        failed = f"failed {self._num_failed}"
        if len(self._records) != self._volume[0]:
            self._volume = len(self._records), self._hypervolume(self._records)
        volume = self._volume[1]
        text = Text(f"running {len(self._running)}  ")
        text.append(failed, style="red" if self._num_failed else "")
        if self._num_interrupted:
            text.append(f"  interrupted {self._num_interrupted}", style="yellow")
        if volume is not None:
            text.append(f"  hypervolume {volume:.4f}")
        return text

    def _running_table(self) -> RenderableType:
        if not self._running:
            return ""
        table = Table.grid(padding=(0, 2))
        running = sorted(self._running.items())
        for number, (job, began) in running[:_SHOWN_RUNNING]:
            seconds = f"{time.monotonic() - began:.0f} s"
            table.add_row(f"  trial {number}", _title(job), str(job.schedule), seconds)
        if len(running) > _SHOWN_RUNNING:
            table.add_row(f"  and {len(running) - _SHOWN_RUNNING} more")
        return table

    def _front_table(self) -> RenderableType:
        evaluations = [(r, r.evaluation) for r in self._records if r.evaluation is not None]
        if not evaluations:
            return ""
        front = non_dominated([e.values for _, e in evaluations])
        e = evaluations[0][1]
        table = Table(title=f"best pairs so far: {len(front)} on the front", title_justify="left")
        for name in ("trial", "schedule", "blocks, data → noise"):
            table.add_column(name)
        table.add_column(fid_title(e.features, e.num_samples), justify="right")
        table.add_column("ms / batch", justify="right")
        for i in front[:_SHOWN_FRONT]:
            record, e = evaluations[i]
            table.add_row(
                str(record.number),
                record.label or "searched",
                _depths(record.depths),
                rounded(e.fid),
                f"{e.latency_ms:.1f}",
            )
        return table


def time_left(
    *, elapsed: float, done: int, running: int, wanted: int, expected: float | None
) -> float | None:
    """Seconds left in a stage: by the estimate first, by its own jobs later.

    Args:
        elapsed: Seconds since the stage began.
        done: Jobs that ended since then.
        running: Jobs that run now; they count as half done.
        wanted: Jobs of the stage.
        expected: Estimated seconds of the whole stage, where there is one.

    Returns:
        None where nothing is known yet.
    """
    if not done:
        return None if expected is None else expected - elapsed
    # NOTE: without those that run, the first result of two workers would halve the speed.
    finished = done + 0.5 * running
    seen = elapsed * (wanted - finished) / finished
    if expected is None:
        return seen
    by_estimate = expected * max(0.0, 1.0 - finished / wanted)
    return (by_estimate + done * seen) / (1 + done)


def _title(job: TrialJob) -> str:
    return job.label or "searched"


def _depths(depths: Sequence[int]) -> str:
    return " ".join(map(str, depths))
