"""Does promotion pay? Half a fine-tune for all and the rest for the best, against it all for all.

    python -m benchmarks.schedulebench.promotion --seeds 60 --trials 30

On a table whose rows were also measured half-way (``digits``). Both arms propose alike and may
spend the same CPU time. The promoting arm measures every schedule half-way and, as soon as one is
among the best half by non-dominated rank, finishes its fine-tune and measures it again
(asynchronous successive halving with Pareto ranks). Both report the front of what they measured at
the end of the fine-tune.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.schedulebench.problems import TableProblem
from benchmarks.schedulebench.replay import replay, score
from benchmarks.schedulebench.report import TOO_EASY
from benchmarks.schedulebench.tables import Table, shipped
from schedsearch.exceptions import ConfigError, ExitCode, SchedSearchError
from schedsearch.pareto import Point, non_dominated
from schedsearch.proposers.registry import build_sampler
from schedsearch.schedule import ExitSchedule
from schedsearch.statistics.intervals import mean_interval

PROPOSERS = ("uniform", "stratified")
"""Proposers that do not look at results: both arms then see the same schedules."""


@dataclass(frozen=True)
class Costs:
    """In units of a trial at the full budget."""

    rung: float
    """Half a fine-tune and its evaluation."""
    promotion: float
    """The other half and its evaluation."""

    @classmethod
    def of(cls, table: Table) -> Costs:
        """Of a table that was measured half-way.

        Raises:
            ConfigError: If it was not.
        """
        if not len(table.rung_fid):
            raise ConfigError(f"{table.name} was not measured half-way; take digits.")
        half = table.costs["fine_tune"] / 2 + table.costs["sample"]
        return cls(half / table.costs["trial"], half / table.costs["trial"])


def ranks(points: Sequence[Point]) -> list[int]:
    """Non-dominated rank of each point: 0 for the front, 1 for the front of the rest, ..."""
    found = [0] * len(points)
    left, rank = list(range(len(points))), 0
    while left:
        front = {left[i] for i in non_dominated([points[i] for i in left])}
        for i in front:
            found[i] = rank
        left = [i for i in left if i not in front]
        rank += 1
    return found


@dataclass
class Promoting:
    """The promoting arm's state.

    Args:
        eta: One in ``eta`` of the schedules at the rung may be promoted.
    """

    eta: int = 2
    at_rung: list[ExitSchedule] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    promoted: list[ExitSchedule] = field(default_factory=list)

    def candidate(self) -> ExitSchedule | None:
        """A schedule among the best share at the rung that was not promoted yet."""
        order = ranks(self.points)
        best = sorted(range(len(order)), key=lambda i: (order[i], i))
        for i in best[: len(order) // self.eta]:
            if self.at_rung[i] not in self.promoted:
                return self.at_rung[i]
        return None


def run_promoting(
    problem: TableProblem, proposals: Sequence[ExitSchedule], costs: Costs, budget: float, eta: int
) -> list[ExitSchedule]:
    """Schedules that are measured at the end of their fine-tune within a budget.

    Args:
        problem: A table that was measured half-way.
        proposals: New schedules in the order in which they are proposed.
        costs: Of the rung and of a promotion.
        budget: In units of a full trial.
        eta: One in ``eta`` is promoted.
    """
    state, spent, fresh = Promoting(eta), 0.0, iter(proposals)
    while True:
        chosen = state.candidate()
        cost = costs.rung if chosen is None else costs.promotion
        if spent + cost > budget + 1e-9:
            return state.promoted
        if chosen is not None:
            state.promoted.append(chosen)
        elif (schedule := next(fresh, None)) is not None:
            row = problem.row(schedule)
            fid, latency = problem.table.rung_fid[row], problem.table.latency_ms[row]
            state.at_rung.append(schedule)
            state.points.append((float(fid), float(latency)))
        else:
            return state.promoted
        spent += cost


def rank_correlation(table: Table) -> float:
    """Kendall's tau-b between the FID half-way and the mean FID at the end."""
    from scipy.stats import kendalltau

    return float(kendalltau(table.rung_fid, table.fid.astype(np.float64).mean(1)).statistic)


def compare(
    problem: TableProblem, proposer: str, seeds: int, trials: int, eta: int
) -> dict[str, list[float]]:
    """Scores of both arms, one per seed."""
    costs = Costs.of(problem.table)
    found: dict[str, list[float]] = {"fixed": [], "promoting": []}
    for seed in range(seeds):
        # The rung was measured at the first evaluation seed only, so both arms see that one.
        sampler = build_sampler(
            proposer, problem.space, seed, problem.weights, fixed_blocks=problem.fixed_blocks
        )
        most = min(problem.space.size(), int(trials / costs.rung) + 1)
        proposals = replay(problem, sampler, 0, most)
        promoted = run_promoting(problem, proposals, costs, trials, eta)
        found["fixed"].append(score(problem, proposals[:trials], 0))
        found["promoting"].append(score(problem, promoted, 0))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.schedulebench.promotion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--trials", type=int, nargs="+", default=[14, TOO_EASY[1], 60])
    parser.add_argument("--eta", type=int, nargs="+", default=[2, 3], help="one in ETA goes on")
    parser.add_argument("--table", type=Path, default=shipped("digits"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        table = Table.load(args.table)
        problem, costs = TableProblem(table, next(iter(table.error_tables), None)), Costs.of(table)
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    results = [
        (proposer, eta, trials, compare(problem, proposer, args.seeds, trials, eta))
        for proposer in PROPOSERS
        for eta in args.eta
        for trials in args.trials
    ]
    if args.json:
        keys = ("proposer", "eta", "trials", "scores")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in results]))
        return int(ExitCode.DONE)
    print(
        f"{table.name}: a measurement half-way costs {costs.rung:.2f} of a trial, a promotion "
        f"{costs.promotion:.2f}; Kendall's tau between half-way and the end "
        f"{rank_correlation(table):.3f}; {args.seeds} seeds\n"
    )
    print("| proposer | one in | trials | fixed % | promoting % | difference, 95 % |")
    print("|---|---|---|---|---|---|")
    for proposer, eta, trials, scores in results:
        fixed, promoting = (np.array(scores[arm]) for arm in ("fixed", "promoting"))
        mean, (low, high) = mean_interval((promoting - fixed).tolist())
        print(
            f"| {proposer} | {eta} | {trials} | {100 * fixed.mean():.1f} | "
            f"{100 * promoting.mean():.1f} | {100 * mean:+.1f} ± {50 * (high - low):.1f} |"
        )
    return int(ExitCode.DONE)


if __name__ == "__main__":
    raise SystemExit(main())
