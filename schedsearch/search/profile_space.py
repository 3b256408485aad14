"""The command ``profile``: both tables of a space, and the schedules that they favour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from schedsearch.evaluation.latency import BASELINE, measure_schedules
from schedsearch.exceptions import ConfigError
from schedsearch.planning.cells import visited_excess
from schedsearch.planning.seeds import seed_schedules
from schedsearch.runs import costs as stages
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.meter import Metered
from schedsearch.search.stages.profile import ProfileStage
from schedsearch.search.stages.start import StartStage, with_decided_start
from schedsearch.search.start import opened_run
from schedsearch.workers.run_job import run_job
from schedsearch.workers.starts import timed_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schedsearch.evaluation.latency_table import LatencyTable
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.protocols import Backbone
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.meter import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.search.stages.queue import JobQueue
    from schedsearch.settings import StudySettings

NUM_PLANS = 5
"""Optima of the error table shown where ``search.dp_seeds`` asks for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledSchedule:
    """A schedule with what the tables say of it and its measured latency."""

    name: str
    schedule: ExitSchedule
    blocks: int
    """Blocks of one solver run."""
    excess: float
    """Sum over the intervals of the loss above that of the deepest exit."""
    predicted_ms: float
    measured_ms: float
    half_width_ms: float
    """Of the 95 % interval of the measured latency."""
    acceleration: float
    """Share of time saved against full depth, measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of a space before its first trial."""

    settings: StudySettings
    latency: LatencyTable
    errors: ErrorTable
    visits: tuple[int, ...]
    """Network calls of the solver per interval, data -> noise."""
    plans: tuple[ProfiledSchedule, ...]
    """Optimal schedules of the error table, by latency."""
    hand_made: tuple[ProfiledSchedule, ...]
    """Full depth and the space's warm starts."""

    @property
    def deviation(self) -> float:
        """Mean relative error of the predicted latencies of all these schedules."""
        shown = (*self.plans, *self.hand_made)
        return sum(abs(s.predicted_ms / s.measured_ms - 1.0) for s in shown) / len(shown)


def profile_space(settings: StudySettings, folder: RunFolder, observer: Observer) -> Profile:
    """Measure the tables of a space, or take those that a run folder keeps.

    Everything runs in this process, whatever ``search.budget`` says. The folder is that of a
    run: a later search in it takes these tables and starts with its trials.

    Args:
        settings: The space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.

    Raises:
        ConfigError: If the space has no section ``profile``, the folder belongs to another
            space, or a check fails.
        StorageError: If another driver is at work, or the disk fails.
        NoResultError: If the profile fails.
        KeyboardInterrupt: If the user stops it; the same command goes on.
    """
    if settings.profile is None:
        raise ConfigError(
            f"profile measures an error table, but the space {settings.name} says profile: null. "
            "Remove that line, or use `schedsearch latency` for latencies alone."
        )
    with opened_run(settings, folder, observer, with_twins=False) as (ready, meter):
        try:
            _check_start(ready, folder, meter, observer)
            ready = with_decided_start(ready, folder)
            errors = _error_table(ready, folder, meter, observer)
            observer.stage("measuring the latency of planned and hand-made schedules")
            with meter.driver_stage(stages.FINAL_LATENCY):
                return _profile(ready, errors, timed_network(ready.bench, folder))
        finally:
            meter.close()


def _check_start(ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer) -> None:
    stage = StartStage(ready, folder, observer)
    if stage.is_due:
        if folder.results_file.exists():
            stage.refuse_to_decide_again()
        stage.announce()
        _work(stage, meter, stages.START)
    stage.report()


def _work(queue: JobQueue, meter: Meter, name: str) -> None:
    """Do all jobs of a queue in this process."""
    source = Metered(queue, meter, name)
    with meter.stage(name):
        while (job := source.next_job()) is not None:
            source.finish(job, run_job(job))


def _error_table(
    ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer
) -> ErrorTable:
    stage = ProfileStage(ready.settings, ready.settings_text, folder, observer)
    if stage.is_due:
        stage.announce()
        _work(stage, meter, stages.PROFILE)
    table = stage.error_table()
    assert table is not None  # there is a section profile
    return table


def _profile(ready: Preflight, errors: ErrorTable, net: Backbone) -> Profile:
    settings, space = ready.settings, ready.settings.space.build()
    costs = visited_excess(errors, space, ready.visits)
    count = settings.search.dp_seeds or NUM_PLANS
    known = [warm.schedule for warm in ready.warm_starts]
    planned = seed_schedules(errors, space, ready.visits, count, known)
    plans = {f"plan {number}": s for number, s in enumerate(planned, start=1)}
    full = space.schedule([ready.bench.backbone.num_exit_blocks] * space.num_intervals)
    warm = {w.label: w.schedule for w in ready.warm_starts if w.schedule != full}
    named = {BASELINE: full, **warm, **plans}
    measured = measure_schedules(settings, net, ready.bench.solver, named)
    found = {
        name: ProfiledSchedule(
            name=FULL if name == BASELINE else name,
            schedule=schedule,
            blocks=schedule.num_blocks(ready.visits),
            excess=_excess(costs, schedule, space.min_depth),
            predicted_ms=ready.predict_ms(schedule),
            measured_ms=measured[name].median_ms,
            half_width_ms=measured[name].half_width_ms,
            acceleration=measured[name].acceleration,
        )
        for name, schedule in named.items()
    }
    return Profile(
        settings=settings,
        latency=ready.table,
        errors=errors,
        visits=tuple(ready.visits),
        plans=tuple(found[name] for name in plans),
        hand_made=tuple(found[name] for name in (BASELINE, *warm)),
    )


def _excess(costs: NDArray[np.float64], schedule: ExitSchedule, min_depth: int) -> float:
    """Sum of a schedule's cells; full depth counts as the deepest of the space."""
    last = costs.shape[1] - 1
    columns = [min(depth - min_depth, last) for depth in schedule.depths]
    return float(costs[np.arange(len(columns)), columns].sum())
