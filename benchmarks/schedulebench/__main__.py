"""Replays proposers on an exhaustive table and scores the fronts they find.

    python -m benchmarks.schedulebench --seeds 20 --trials 30 --json
    python -m benchmarks.schedulebench --seeds 20 --plot schedulebench.png

A score is the hypervolume of the reported schedules by their true values, over that of the exact
front. Truth is the mean over the evaluation seeds; a search sees one. A proposer pays for its
tables with trials. A fine-tune whose weights all rows share is charged to none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.schedulebench import report
from benchmarks.schedulebench.kept_scores import KeptScores
from benchmarks.schedulebench.rows import digest
from benchmarks.schedulebench.runner import (
    PROPOSERS,
    SLOW,
    UNIFORM,
    ProblemSpec,
    open_problem,
    run_all,
)
from benchmarks.schedulebench.tables import shipped
from schedsearch.exceptions import ConfigError, ExitCode, SchedSearchError

BUDGETS = (14, 30, 60, 150)
CURVE = (5, 7, 10, 14, 20, 30, 42, 60, 85, 110, 150)
"""Budgets of the picture."""


def default_space() -> str:
    """The hardest of the tables that are there."""
    return next((name for name in ("uvit", "digits") if shipped(name).is_file()), "synthetic")


def build_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.schedulebench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=20, help="searches per proposer")
    parser.add_argument("--trials", type=int, help="one budget (default: 14, 30, 60 and 150)")
    parser.add_argument(
        "--space",
        default=default_space(),
        help="digits, uvit, synthetic, or an npz of your own (default: %(default)s)",
    )
    parser.add_argument(
        "--proposers",
        nargs="+",
        choices=PROPOSERS,
        default=[name for name in PROPOSERS if name != SLOW],
        help=f"default: all but {SLOW}, which takes seconds per trial",
    )
    parser.add_argument("--error-table", help="which one of the table's (default: its first)")
    parser.add_argument(
        "--warm-starts",
        choices=["none", "full", "presets"],
        default="full",
        help="what every proposer measures first (default: %(default)s)",
    )
    parser.add_argument(
        "--dp-seeds",
        type=int,
        default=ProblemSpec.dp_seeds,
        help="optima of the error table that ours measures next (default: %(default)s)",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep finished searches here; the same command does not repeat them",
    )
    parser.add_argument("--json", action="store_true", help="print {proposer: mean fraction}")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="hypervolume against trials")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is that of ``schedsearch``."""
    args = build_parser().parse_args(argv)
    try:
        _check(args)
        _run(args)
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    return int(ExitCode.DONE)


def _check(args: argparse.Namespace) -> None:
    for name in ("seeds", "jobs", "trials"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}.")
    if args.dp_seeds < 0:
        raise ConfigError(f"--dp-seeds must be at least 0, got {args.dp_seeds}.")
    if args.space not in ("digits", "uvit", "synthetic") and not args.space.endswith(".npz"):
        raise ConfigError(
            f"--space must be digits, uvit, synthetic or a file *.npz, got {args.space}."
        )


def _run(args: argparse.Namespace) -> None:
    budgets: tuple[int, ...] = BUDGETS if args.trials is None else (args.trials,)
    if args.json and args.trials is None:
        budgets = BUDGETS[-1:]
    # Kept searches hold the whole curve, so that a later --plot does not repeat them.
    curve = CURVE if args.plot or args.keep else ()
    wanted = sorted({*budgets, *(budget for budget in curve if budget <= max(budgets))})
    spec = ProblemSpec(
        space=args.space,
        errors=args.error_table,
        warm_starts=args.warm_starts,
        dp_seeds=args.dp_seeds,
    )
    problem = open_problem(spec)
    kept = (
        None
        if args.keep is None
        else KeptScores.open(args.keep, problem, _conditions(spec, wanted))
    )
    started = time.perf_counter()
    scores = run_all(
        spec, args.proposers, args.seeds, wanted, jobs=args.jobs, note=_note, kept=kept
    )
    seconds = time.perf_counter() - started
    conditions = f"{args.seeds} searches each, warm starts: {args.warm_starts}"
    if UNIFORM in args.proposers:
        easy = {**scores[UNIFORM], **_at_the_check(spec, args.seeds, wanted)}
        if (line := report.warning({UNIFORM: easy}, problem.name)) is not None:
            _note(line)
    if args.plot is not None:
        report.plot(scores, wanted, f"{problem.name}, {conditions}", args.plot)
    if args.json:
        print(json.dumps(report.means(scores, budgets[0])))
        return
    charges = [problem.charge(error_table=uses) for uses in (False, True)]
    print(
        f"{problem.name}: {problem.space.size():,} schedules, {conditions}, {seconds:.0f} s. "
        f"Charged: {charges[0]} trials for latency, {charges[1]} with the error table."
    )
    print(f"{problem.not_charged}\n" if problem.not_charged else "")
    print(report.table(scores, budgets))


def _conditions(spec: ProblemSpec, budgets: Sequence[int]) -> Mapping[str, object]:
    """What kept searches must have in common, besides the problem's truth and the code."""
    if spec.space.endswith(".npz"):
        file: Path | None = Path(spec.space)
    else:
        file = None if spec.space == "synthetic" else shipped(spec.space)
    return {
        "table": None if file is None else digest(file),
        "errors": spec.errors,
        "warm_starts": spec.warm_starts,
        "dp_seeds": spec.dp_seeds,
        "budgets": list(budgets),
    }


def _at_the_check(
    spec: ProblemSpec, seeds: int, budgets: Sequence[int]
) -> Mapping[int, Sequence[float]]:
    """Uniform random at the budget of the check, unless it is among the budgets."""
    _, trials = report.TOO_EASY
    if trials in budgets:
        return {}
    return run_all(spec, [UNIFORM], seeds, [trials], jobs=1, note=_note)[UNIFORM]


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
