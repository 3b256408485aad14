"""The profile of a space by itself: both tables, and what follows from them before any trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from schedsearch.evaluation.latency import BASELINE
from schedsearch.exceptions import ConfigError
from schedsearch.hand_made import FULL
from schedsearch.planning.cells import visited_excess
from schedsearch.planning.seeds import seed_schedules
from schedsearch.schedule import ExitSchedule
from schedsearch.search import costs as stages
from schedsearch.search.latency_stage import measure_schedules
from schedsearch.search.opening import opened_run
from schedsearch.search.profile_stage import ProfileStage
from schedsearch.search.profile_worker import run_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schedsearch.evaluation.latency_table import LatencyTable
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.search.metering import Meter
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.search.seam import Observer
    from schedsearch.settings import StudySettings

NUM_PLANS = 5
"""Plans shown where ``search.dp_seeds`` asks for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledSchedule:
    """A schedule with what the tables say of it and what its latency really is."""

    name: str
    schedule: ExitSchedule
    blocks: int
    """Blocks of one solver run."""
    excess: float
    """Sum over the intervals of the loss above that of the deepest exit."""
    predicted_ms: float
    measured_ms: float
    half_width_ms: float
    """Of the 95 % interval of the measured median."""
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

    The shared fine-tune runs in this process, whatever ``search.budget`` says. The folder is
    that of a run: a later search in it takes these tables and starts with its trials.

    Args:
        settings: The space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.

    Raises:
        ConfigError: If the space has no section ``profile``, the folder belongs to another
            space, or a check fails.
        StorageError: If another driver is at work, or the disk fails.
        NoResultError: If the shared fine-tune fails.
        KeyboardInterrupt: If the user stops it; the same command goes on.
    """
    if settings.profile is None:
        raise ConfigError(
            f"profile measures an error table, but the space {settings.name} says profile: null. "
            "Remove that line, or use `schedsearch latency` for latencies alone."
        )
    with opened_run(settings, folder, observer) as (ready, meter):
        try:
            errors = _error_table(ready, folder, meter, observer)
            observer.stage("measuring the latency of planned and hand-made schedules")
            with meter.driver_stage(stages.FINAL_LATENCY):
                return _profile(ready, errors)
        finally:
            meter.close()


def _error_table(
    ready: Preflight, folder: RunFolder, meter: Meter, observer: Observer
) -> ErrorTable:
    stage = ProfileStage(ready.settings, ready.settings_text, folder, observer)
    if stage.num_jobs:
        stage.announce()
    with meter.stage(stages.PROFILE):
        while (job := stage.next_job()) is not None:
            meter.begin(job)
            outcome = run_profile(job)
            meter.end(job, complete="record" in outcome)
            stage.finish(job, outcome)
    table = stage.error_table()
    assert table is not None  # there is a section profile
    return table


def _profile(ready: Preflight, errors: ErrorTable) -> Profile:
    settings, space = ready.settings, ready.settings.space.build()
    costs = visited_excess(errors, space, ready.visits)
    count = settings.search.dp_seeds or NUM_PLANS
    known = [warm.schedule for warm in ready.warm_starts]
    planned = seed_schedules(errors, space, ready.visits, count, known)
    plans = {f"plan {number}": s for number, s in enumerate(planned, start=1)}
    full = ExitSchedule.flat(ready.bench.backbone.num_exit_blocks, space.num_intervals)
    warm = {w.label: w.schedule for w in ready.warm_starts if w.schedule != full}
    named = {BASELINE: full, **warm, **plans}
    measured = measure_schedules(settings, ready.bench.backbone, ready.bench.solver, named)
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
