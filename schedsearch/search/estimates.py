"""What a run will take, by its latency table: shown before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedsearch.config.rival_entries import merged_recipe
from schedsearch.evaluation.clocks import build_clock
from schedsearch.evaluation.latency_rounds import whole_runs
from schedsearch.runs.methods.digests import maker_in
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.stages.confirmation import FRONT_SHARE
from schedsearch.search.stages.latency import CANDIDATES
from schedsearch.search.stages.plans import rows_without_training
from schedsearch.search.stages.rivals import rivals_in, seeds_of, training_seeds
from schedsearch.settings.plan import PLAN, PlanTarget
from schedsearch.settings.rivals import (
    FittedStepsRival,
    PlanSettings,
    RivalSettings,
    StepsRival,
)
from schedsearch.settings.rows import calibrates, entry_of
from schedsearch.workers.rivals.thresholds import CALIBRATION_SAMPLES, TIMED_BATCHES
from schedsearch.workers.start_check import CHECK_SEEDS, FIT_IMAGES

if TYPE_CHECKING:
    from schedsearch.search.preflight import Preflight
    from schedsearch.settings import StudySettings
    from schedsearch.settings.rows import Row

STARTUP_SECONDS = 8.0
"""What starting the workers and importing torch in them takes, roughly."""

TRAINING_PASSES = 3.0
"""Forward and backward pass of a training step, in forward passes."""

CALIBRATION_CALLS = 8
"""Sampling runs that a threshold takes, as a guess."""

FITTING_CALLS = 2
"""Sampling runs of full length that fitting a row's steps takes, as a guess."""

TIMED_THRESHOLDS = 2
"""Thresholds of a row that are timed, as a guess."""

PLAN_PASSES = 8
"""Network passes per image that fits and errors of plans take, roughly."""

FRONT_SIZE = 8
"""Schedules of a front whose latency is measured, as a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Rough seconds of the stages of a run; of jobs on one worker."""

    trial: float
    """The mean trial."""
    trials: float
    start: float
    """Adapters, and the check whether fine-tunes start from them."""
    profile: float
    latency: float
    confirmation: float
    plans: float
    """Plans and fewer solver steps, all workers at work."""
    num_workers: int

    @property
    def wall(self) -> float:
        """Seconds until the run ends."""
        parallel = (self.trials + self.confirmation) / self.num_workers
        start = self.start / min(2, self.num_workers)
        before = self.plans + start + self.profile
        return STARTUP_SECONDS + before + parallel + self.latency

    @property
    def device(self) -> float:
        """Seconds that workers, or the driver in their place, are busy."""
        before = self.plans * self.num_workers + self.start + self.profile
        return before + self.trials + self.latency + self.confirmation


def estimate_run(ready: Preflight) -> Estimate:
    """What a new run will take.

    Presets count with their own depths, searched schedules with the mean depth of the presets,
    or two thirds of full depth where there are none.

    Args:
        ready: The study, with its latency table.
    """
    settings = ready.settings
    evaluation, recipe, n_trials = settings.evaluation, settings.recipe, settings.search.n_trials
    num_calls, num_blocks = ready.table.num_calls, ready.bench.backbone.num_exit_blocks
    # Cost of one image through the network.
    per_image = (
        (ready.table.a_ms + ready.table.b_ms * num_blocks) / 1000 / evaluation.latency_batch
    )
    shares = {
        w.label: ready.predict_ms(w.schedule) / ready.latency.full_ms for w in ready.warm_starts
    }
    presets = [share for label, share in shares.items() if label != FULL]
    searched = sum(presets) / len(presets) if presets else 2 / 3
    # Latency of full depth, over all rounds.
    runs = whole_runs(build_clock(ready.bench.device), evaluation.latency_repeats)
    full_latency = runs * ready.latency.full_ms / 1000
    # Trials.
    training = TRAINING_PASSES * recipe.num_steps * recipe.batch_size
    own_training = training if recipe.weights == "own" else 0.0
    full_trial = per_image * (own_training + evaluation.num_samples * num_calls)
    measured = [*shares.values(), *[searched] * max(0, n_trials - len(shares))]
    trials = full_trial * sum(measured)
    if settings.resources.gpus_per_trial >= 1:  # each is measured in place, beside full depth
        trials += full_latency * sum(1.0 + share for share in measured)
    # Adapters and their check: two fine-tunes, each measured at every seed.
    start = 0.0
    if recipe.start == "adapters":
        share = min(presets, default=searched)
        judged = training + len(CHECK_SEEDS) * evaluation.num_samples * num_calls
        start = per_image * (2 * share * judged + FIT_IMAGES * num_calls)
    # Profile: every exit of an interval comes from one pass.
    profile = per_image * training if recipe.weights == "shared" else 0.0
    if settings.profile is not None:
        profile += per_image * settings.profile.num_images * settings.space.num_intervals
    # Final latencies.
    num_searched = min(len(measured) - len(shares), FRONT_SIZE + CANDIDATES)
    chosen = [*shares.values(), *[searched] * num_searched]
    # Confirmation, and retraining of pairs.
    num_images = evaluation.confirm_samples_used * evaluation.confirm_seeds
    held_out = per_image * num_images * num_calls
    opponents = [searched] * len(presets)
    confirmed = [*shares.values(), *opponents, *[searched] * FRONT_SHARE]
    confirmation = held_out * sum(confirmed[:n_trials])
    retraining = (held_out + per_image * own_training) * sum([*presets, *opponents])
    confirmation += retraining * evaluation.confirm_training_seeds
    return Estimate(
        trial=trials / max(1, len(measured)),
        trials=trials,
        start=start,
        profile=profile,
        latency=full_latency * sum(chosen),
        plans=estimate_comparison(ready, rows_without_training(settings)).work,
        confirmation=confirmation if evaluation.confirm_seeds else 0.0,
        num_workers=settings.resources.num_workers,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonEstimate:
    """Rough seconds of the stages of a comparison, all workers at work."""

    networks: float
    plans: float
    rows: float
    latency: float

    @property
    def work(self) -> float:
        """Seconds of all stages."""
        return self.networks + self.plans + self.rows + self.latency

    @property
    def wall(self) -> float:
        """Seconds until it ends, with the start of the workers."""
        return STARTUP_SECONDS + self.work


def estimate_comparison(ready: Preflight, rows: Sequence[Row]) -> ComparisonEstimate:
    """What a comparison will take: training, quality with calibration, and latencies.

    Args:
        ready: The study, with its latency table.
        rows: The rows to measure.
    """
    settings = ready.settings
    evaluation = settings.evaluation
    per_image = ready.latency.full_ms / 1000 / evaluation.latency_batch
    per_call = per_image / ready.table.num_calls
    seeds = len(training_seeds(settings))
    rivals = rivals_in(settings)
    makers = {row.net: maker_in(settings, row) for row in rows if row.net is not None}
    training = 0.0
    for maker in makers.values():
        recipe = merged_recipe(settings.recipe, entry_of(maker, rivals))
        samples = recipe["num_steps"] * recipe["batch_size"] * len(seeds_of(maker, settings))
        training += TRAINING_PASSES * samples * per_call
    measured = sum(
        (1 + row.has_twin)
        * _share(entry_of(row, rivals), row, settings)
        * len(seeds_of(row, settings))
        for row in rows
    )
    num_images = evaluation.num_samples
    num_images += evaluation.confirm_seeds * evaluation.confirm_samples_used
    quality = measured * num_images * per_image
    sought = sum(calibrates(entry_of(row, rivals)) for row in rows)
    calibration = sought * CALIBRATION_CALLS * CALIBRATION_SAMPLES * per_image
    timed = evaluation.latency_repeats * (1 + TIMED_BATCHES) * evaluation.latency_batch
    calibration += sought * TIMED_THRESHOLDS * timed * per_image
    for row in rows:
        if isinstance(entry := entry_of(row, rivals), FittedStepsRival):
            calibration += FITTING_CALLS * entry.calibration_samples * per_image
    workers = settings.resources.num_workers
    runs = len(rows) + sum(row.dynamic for row in rows) * evaluation.latency_batches
    rounds = whole_runs(build_clock(ready.bench.device), evaluation.latency_repeats)
    return ComparisonEstimate(
        networks=training / workers,
        plans=_plan_seconds(settings, rows, per_image),
        rows=(quality + seeds * calibration) / workers,
        latency=rounds * runs * ready.latency.full_ms / 1000,
    )


def _share(entry: RivalSettings, row: Row, settings: StudySettings) -> float:
    """Share of full depth's time that a row takes, where its settings say so."""
    if isinstance(entry, PlanSettings):
        return PlanTarget.parse(str(row.point)).share
    if isinstance(entry, StepsRival):
        return float(str(row.point)) / settings.solver.num_steps
    return 1.0


def _plan_seconds(settings: StudySettings, rows: Sequence[Row], per_image: float) -> float:
    """Calibrating plans: images of every stage, and half a run per weighed step."""
    if settings.plan is None:
        return 0.0
    targets = [PlanTarget.parse(str(row.point)) for row in rows if row.entry == PLAN]
    own = settings.solver.num_steps
    counts = {target.num_steps or own for target in targets}
    plain = PLAN_PASSES * (settings.plan.fit_images + settings.plan.table_images)
    return sum(
        count / own * per_image * (plain + settings.plan.weight_images * (1 + count / 2))
        for count in counts
    )
