"""One search replayed on a problem, as the driver would run it.

A schedule counts once; a known one is answered at no cost. After ten known ones in a row, a
random new one is enqueued.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np
import optuna

from benchmarks.schedulebench.problems import Problem
from schedsearch.pareto import Point, hypervolume, non_dominated
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.study.proposals import DP_SEED, MAX_DUPLICATES


def replay(
    problem: Problem,
    sampler: optuna.samplers.BaseSampler,
    seed: int,
    budget: int,
    seeds: Sequence[ExitSchedule] = (),
    labelled: Sequence[tuple[str, ExitSchedule]] = (),
) -> list[ExitSchedule]:
    """Evaluate ``budget`` different schedules.

    Args:
        problem: Answers.
        sampler: Proposes.
        seed: Of the evaluation; a search sees one.
        budget: Schedules to evaluate.
        seeds: Optimal schedules of the error table, to evaluate before proposals.
        labelled: Named schedules to evaluate before all others, as warm starts.

    Returns:
        The schedules in the order of their evaluation; fewer when the space has no more.
    """
    study = _study(sampler)
    space = problem.space
    for label, schedule in labelled:
        attrs = {"depths": list(schedule.depths), "label": label}
        study.enqueue_trial(space.to_params(schedule), user_attrs=attrs)
    for schedule in seeds:
        attrs = {"depths": list(schedule.depths), "origin": DP_SEED}
        study.enqueue_trial(space.to_params(schedule), user_attrs=attrs)
    known: dict[ExitSchedule, tuple[int, Point]] = {}
    duplicates = 0
    while len(known) < min(budget, space.size()):
        trial = study.ask()
        schedule = space.suggest(trial)
        trial.set_user_attr("depths", list(schedule.depths))
        if schedule in known:
            number, values = known[schedule]
            trial.set_user_attr("duplicate_of", number)
            study.tell(trial, values)
            duplicates += 1
            if duplicates % MAX_DUPLICATES == 0:
                new = _pick_unknown(problem, known.keys(), [seed, len(study.trials)])
                attrs = {"depths": list(new.depths)}
                study.enqueue_trial(space.to_params(new), user_attrs=attrs)
            continue
        duplicates = 0
        values = problem.observe(schedule, seed)
        study.tell(trial, values)
        known[schedule] = trial.number, values
    return list(known)


def _study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)


def _pick_unknown(
    problem: Problem, known: Collection[ExitSchedule], key: Sequence[int]
) -> ExitSchedule:
    rng = np.random.default_rng(list(key))
    for _ in range(1000):
        schedule = problem.space.sample(rng)
        if schedule not in known:
            return schedule
    return next(s for s in problem.space.enumerate() if s not in known)


def reported(problem: Problem, evaluated: Sequence[ExitSchedule], seed: int) -> list[ExitSchedule]:
    """The front that a search would report: by what it saw."""
    points = [problem.observe(schedule, seed) for schedule in evaluated]
    return [evaluated[i] for i in non_dominated(points)]


def score(problem: Problem, evaluated: Sequence[ExitSchedule], seed: int) -> float:
    """Hypervolume of the true values of the reported front, over that of the exact front.

    Scaling FID and latency to [0, 1] divides both by the same number, so it is left out.
    """
    points = [problem.truth(s) for s in reported(problem, evaluated, seed)]
    return hypervolume(points, problem.reference) / problem.best_hypervolume
