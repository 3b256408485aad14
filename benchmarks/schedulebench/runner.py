"""Every proposer on a problem, over many seeds and budgets, in processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from benchmarks.schedulebench.kept_scores import KeptScores
from benchmarks.schedulebench.levels import snapped
from benchmarks.schedulebench.problems import Problem, TableProblem
from benchmarks.schedulebench.replay import replay, score
from benchmarks.schedulebench.synthetic import SyntheticProblem
from benchmarks.schedulebench.tables import Table, shipped
from schedsearch.exceptions import ConfigError
from schedsearch.planning.seeds import seed_schedules
from schedsearch.proposers.registry import build_sampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, HAND_MADE, scale_schedule
from schedsearch.settings import SearchSettings

WarmStarts = Literal["none", "full", "presets"]

OURS, SEEDS_ALONE, UNIFORM = "ours", "dp_seeds", "uniform"
PROPOSERS = (UNIFORM, "stratified", "tpe", "nsga2", "gp", SEEDS_ALONE, OURS)
"""All names; the middle ones are those of ``search.sampler``."""

SLOW = "gp"
"""Seconds per proposal, so it runs only when it is asked for."""

USES_ERROR_TABLE = frozenset({SEEDS_ALONE, OURS})


@dataclass(frozen=True, kw_only=True)
class ProblemSpec:
    """Names a problem, so that a process can open it."""

    space: str
    """``digits``, ``uvit``, ``synthetic``, or the path of an npz."""
    errors: str | None = None
    """Key of the error table."""
    warm_starts: WarmStarts = "full"
    """What every proposer measures first: nothing, full depth (as every run of the product
    does), or the papers' schedules too."""
    dp_seeds: int = SearchSettings(n_trials=1).dp_seeds
    """Optima of the error table that ours measures next; the product's default."""


@lru_cache(maxsize=4)
def open_problem(spec: ProblemSpec) -> Problem:
    """The problem.

    Raises:
        ConfigError: If its table is missing or damaged, or has no such error table.
    """
    if spec.space == "synthetic":
        if spec.errors is not None:
            raise ConfigError(
                f"The synthetic space makes its own error table; leave out --error-table "
                f"{spec.errors}."
            )
        return SyntheticProblem()
    is_file = spec.space.endswith(".npz")
    problem = TableProblem(
        Table.load(Path(spec.space) if is_file else shipped(spec.space)), spec.errors
    )
    if spec.errors is not None:
        problem.error_table(0)  # fail here rather than in a worker
    return problem


def evaluations(
    spec: ProblemSpec, proposer: str, seed: int, budgets: Sequence[int]
) -> dict[int, list[ExitSchedule]]:
    """What one search evaluates within each budget, its charge taken off.

    The budgets are prefixes of one run, but for the seeds alone, which are spread over as many
    as each budget allows.

    Args:
        spec: The problem.
        proposer: One of ``PROPOSERS``.
        seed: Of the proposer and of what it sees.
        budgets: Trials, charges included.
    """
    problem = open_problem(spec)
    charge = problem.charge(error_table=proposer in USES_ERROR_TABLE)
    counts = {budget: max(0, budget - charge) for budget in budgets}
    labelled = warm_starts(problem, spec.warm_starts)
    if proposer == SEEDS_ALONE:
        return {budget: _seeds_alone(problem, seed, n, labelled) for budget, n in counts.items()}
    errors = problem.error_table(seed) if proposer in USES_ERROR_TABLE else None
    sampler = build_sampler(
        "additive" if proposer == OURS else proposer,
        problem.space,
        seed,
        problem.weights,
        fixed_blocks=problem.fixed_blocks,
        error_table=errors,
    )
    first: list[ExitSchedule] = []
    if errors is not None and spec.dp_seeds:
        named = [schedule for _, schedule in labelled]
        first = seed_schedules(errors, problem.space, problem.weights, spec.dp_seeds, named)
    found = replay(problem, sampler, seed, max(counts.values()), first, labelled)
    return {budget: found[:n] for budget, n in counts.items()}


def _seeds_alone(
    problem: Problem, seed: int, count: int, labelled: Sequence[tuple[str, ExitSchedule]]
) -> list[ExitSchedule]:
    named = list(dict.fromkeys(schedule for _, schedule in labelled))[:count]
    errors = problem.error_table(seed)
    seeds = seed_schedules(errors, problem.space, problem.weights, count - len(named), named)
    return [*named, *seeds]


def warm_starts(problem: Problem, which: WarmStarts) -> list[tuple[str, ExitSchedule]]:
    """Full depth, and the papers' schedules for that kind of network, snapped to the levels.

    They are scaled to the depth of the network: numbers of levels are no depths.
    """
    space, levels = problem.space, problem.levels
    number = {depth: place for place, depth in enumerate(levels, start=space.min_depth)}
    if which == "none":
        return []
    kind = "U-ViT" if "uvit" in problem.name else "DiT"
    found = [(FULL, ExitSchedule.flat(space.max_depth, space.num_intervals))]
    for name, row in HAND_MADE.items():
        if which == "presets" and name.endswith(f"-{kind}"):
            scaled = scale_schedule(row.schedule, old=row.num_exit_blocks, new=levels[-1])
            depths = snapped(scaled, levels)
            found.append((name, ExitSchedule(tuple(number[depth] for depth in depths))))
    unique = {schedule: name for name, schedule in reversed(found)}
    return [(name, schedule) for name, schedule in found if unique[schedule] == name]


def run_one(
    spec: ProblemSpec, proposer: str, seed: int, budgets: Sequence[int]
) -> dict[int, float]:
    """Score of one search by budget."""
    problem = open_problem(spec)
    found = evaluations(spec, proposer, seed, budgets)
    return {budget: score(problem, schedules, seed) for budget, schedules in found.items()}


Scores = Mapping[str, Mapping[int, Sequence[float]]]
"""Proposer -> budget -> one score per seed."""


def run_all(
    spec: ProblemSpec,
    proposers: Sequence[str],
    seeds: int,
    budgets: Sequence[int],
    *,
    jobs: int,
    note: Callable[[str], None],
    kept: KeptScores | None = None,
) -> Scores:
    """All searches; the same whatever the number of processes.

    Args:
        spec: The problem.
        proposers: Their names.
        seeds: Searches per proposer.
        budgets: Trials, charges included.
        jobs: Processes.
        note: Takes a line of progress.
        kept: Searches that ended before, and where those that end now are kept.
    """
    open_problem(spec)  # fail here rather than in every process
    found = {} if kept is None else kept.read()
    every = [(name, seed) for name in reversed(proposers) for seed in range(seeds)]
    tasks = [task for task in every if task not in found]

    def add(name: str, seed: int, scores: dict[int, float]) -> None:
        found[name, seed] = scores
        if kept is not None:
            kept.add(name, seed, scores)
            note(f"{name}: search {seed} kept")
        if all((name, s) in found for s in range(seeds)):
            note(f"{name}: {seeds} searches done")

    if jobs == 1:
        for name, seed in tasks:
            add(name, seed, run_one(spec, name, seed, budgets))
    elif tasks:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the processes import torch
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(run_one, spec, *task, budgets): task for task in tasks}
            try:
                for future in as_completed(running):
                    add(*running[future], future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)  # or hours of queued searches would go on
                raise
    return {
        name: {b: [found[name, seed][b] for seed in range(seeds)] for b in budgets}
        for name in proposers
    }
