"""What a budget keeps back for the stages after the trials, by what the trials took so far."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedsearch.evaluation.latency_rounds import RUNS_PER_ROUND
from schedsearch.search.latency_stage import trials_to_measure
from schedsearch.search.metering import Reserve

if TYPE_CHECKING:
    from schedsearch.search.confirmation_jobs import JobsLeft
    from schedsearch.search.results import RunResults

MOST_RESERVED = 0.5
"""Share of a budget that may be kept back for what follows the trials."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Mean seconds of a worker."""

    trial: float
    finetune_step: float
    """By what sampling took, where trials have no steps."""
    measurement: float
    """Everything of a trial but its fine-tune, for the images of a confirmation."""

    @classmethod
    def of(cls, results: RunResults) -> Pace | None:
        """None before a trial has ended well."""
        records = [record for record in results.records if record.complete]
        if not records:
            return None
        evaluation = results.settings.evaluation
        trial = statistics.fmean(record.seconds for record in records)
        tuning = statistics.fmean(r.stage_seconds.get("fine-tune", 0.0) for r in records)
        num_samples = evaluation.confirm_samples or evaluation.num_samples
        recipe, seeds = results.settings.recipe, evaluation.seeds_per_trial
        if recipe.num_steps:
            finetune_step = tuning / (recipe.num_steps * seeds)
        else:  # a step is three passes of its batch
            nfe = statistics.fmean(r.evaluation.nfe for r in records if r.evaluation is not None)
            one_pass = (trial - tuning) / (evaluation.num_samples * seeds * nfe)
            finetune_step = 3 * recipe.batch_size * one_pass
        return cls(
            trial=trial,
            finetune_step=finetune_step,
            measurement=(trial - tuning) * num_samples / (evaluation.num_samples * seeds),
        )


def seconds_to_the_end(results: RunResults, left: JobsLeft) -> Reserve:
    """What the final latencies and the confirmation will take, if no further trial ends.

    Args:
        results: What was measured so far.
        left: Jobs of the confirmation that these results ask for.
    """
    if (pace := Pace.of(results)) is None:
        return Reserve()
    settings = results.settings
    runs = RUNS_PER_ROUND * settings.evaluation.latency_repeats
    numbers = set(trials_to_measure(results))
    one_run = sum(e.latency_ms for e in results.entries if e.trial in numbers) / 1000.0
    promotion = left.promotions * settings.evaluation.confirm_steps * pace.finetune_step
    anew = left.retraining_steps * pace.finetune_step
    measuring = left.measurements * pace.measurement
    workers = settings.resources.num_workers
    return Reserve(
        device_seconds=runs * one_run + promotion + anew + measuring,
        wall_seconds=runs * one_run
        + promotion / max(1, min(workers, left.promotions))
        + anew / max(1, min(workers, left.retrainings))
        + measuring / max(1, min(workers, left.measurements)),
    )


def reserve_for_one_more(results: RunResults, left: JobsLeft) -> Reserve:
    """What must be left of the budget for a further trial to start.

    The trial itself, the other workers' trials (half done on average), and the end of the run;
    for the latter half of the budget at most, so that a small one is not kept back as a whole.

    Args:
        results: What was measured so far.
        left: Jobs of the confirmation that these results ask for.
    """
    if (pace := Pace.of(results)) is None:
        return Reserve()
    end, budget = seconds_to_the_end(results, left), results.settings.search.budget
    running = pace.trial * (results.settings.resources.num_workers - 1) / 2
    device, wall = end.device_seconds, end.wall_seconds
    if budget.device_hours is not None:
        device = min(device, MOST_RESERVED * 3600.0 * budget.device_hours)
    if budget.wall_clock is not None:
        wall = min(wall, MOST_RESERVED * budget.wall_clock)
    return Reserve(device_seconds=pace.trial + running + device, wall_seconds=pace.trial + wall)
