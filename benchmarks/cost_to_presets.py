"""What a search costs until its front is worth that of the hand-made schedules, fine-tuned long.

    python -m benchmarks.cost_to_presets RUN --num-steps 400 --jobs 2

Without a search, a user fine-tunes the presets one by one, each from the pretrained weights,
whatever the run's trials start from. This does so with the run's own seeds, and compares
hypervolume and cost with those of the run after each of its trials. Costs are seconds that workers
were busy. The hypervolume is a share of the box up to 3 x FID and 1.01 x latency of the pretrained
network at full depth, which any user has, and which therefore belongs to both fronts and costs
neither side anything; all latencies are those of the run's latency table, so that schedules
compare which nobody timed.

A search picks its front by the FIDs that it saw, so these flatter it. Where the run confirmed a
schedule with fresh seeds, that mean counts instead, and the presets are measured at the same
seeds. Trials that nobody confirmed keep the search's own FID; a column says how many of the
front's schedules are confirmed. Rows are kept, and the same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schedsearch.search.volumes import hypervolume_in_box

from benchmarks.result_tables import Table
from benchmarks.retraining import Job, exit_code_of, measure_all
from schedsearch.files.atomic import write_text
from schedsearch.pareto import non_dominated
from schedsearch.runs import costs as stages
from schedsearch.runs.costs import Costs
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import FrontEntry, RunResults
from schedsearch.schedules.hand_made import FULL

BEFORE_TRIALS = (stages.CHECKS, stages.PROFILE)
AFTER_TRIALS = (stages.FINAL_LATENCY, stages.RUNOFF, stages.PROMOTION, stages.CONFIRMATION)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Valued:
    """(FID, predicted latency) of a schedule, and what it is known from."""

    point: Point
    confirmed: bool
    """By fresh seeds, which chose nothing."""
    seconds: float
    """What fine-tune and one evaluation took."""


def valued(entry: FrontEntry, seconds: float, *, fresh: bool) -> Valued:
    """A finished trial.

    Args:
        entry: The trial.
        seconds: What it took.
        fresh: Whether confirmed FIDs compare with those of trials.
    """
    if not fresh or entry.fid_confirmed is None:
        return Valued((entry.fid_search, entry.predicted_latency_ms), False, seconds)
    return Valued((entry.fid_confirmed, entry.predicted_latency_ms), True, seconds)


def measured_alone(entry: FrontEntry, row: Mapping[str, Any], *, fresh: bool) -> Valued:
    """Full depth or a preset without a search; a user measures it once, as the search does."""
    cost = row["finetune_seconds"] + row["measure_seconds"] / len(row["fids"])
    return Valued((statistics.fmean(row["fids"]), entry.predicted_latency_ms), fresh, cost)


def cost_table(
    entries: Sequence[FrontEntry],
    seconds: Sequence[float],
    costs: Costs,
    presets: Sequence[Valued],
    full: Valued,
    protocol: str,
    *,
    fresh: bool,
) -> Table:
    """Hypervolume and cost of the presets, and of a run up to each milestone.

    Args:
        entries: Trials in the order in which they ended.
        seconds: What each took.
        costs: Of the whole run.
        full: Full depth as it was pretrained.
        presets: Presets, fine-tuned long.
        protocol: How it was measured, for people.
        fresh: Whether confirmed FIDs compare with those of trials.
    """
    trials = [valued(e, s, fresh=fresh) for e, s in zip(entries, seconds, strict=True)]
    price = sum(preset.seconds for preset in presets)
    first = _row("presets, fine-tuned one by one", [full, *presets], full, price)
    goal = first["hypervolume"]
    spent = costs.device_seconds_by_stage()
    before = sum(spent.get(stage, 0.0) for stage in BEFORE_TRIALS)
    before += spent.get(stages.FAILED_TRIALS, 0.0) + spent.get(stages.INTERRUPTED, 0.0)
    rows = [first]
    for title, named in (
        ("search, all trials", True),
        ("search, its proposals alone", False),
    ):
        for count in range(1, len(entries) + 1):
            ended = zip(entries[:count], trials[:count], strict=True)
            found = [full, *(trial for entry, trial in ended if named or entry.name is None)]
            used = before + sum(seconds[:count])
            row = _row(f"{title}: after trial {count}", found, full, used)
            if row["hypervolume"] >= goal:
                rows.append(row)
                break
        else:
            rows.append(_row(f"{title}: never", found, full, costs.device_seconds))
    used = before + sum(seconds)
    trials.append(full)
    rows.append(_row("search, all trials, before confirmation", trials, full, used))
    used += sum(spent.get(stage, 0.0) for stage in AFTER_TRIALS)
    rows.append(_row("search, confirmation included", trials, full, used))
    for row in rows:
        row["ratio"] = row["seconds"] / price
    return Table(
        title="Cost of a front worth the hand-made schedules'",
        note=protocol,
        columns={
            "what": "",
            "hypervolume": ".4f",
            "confirmed": "",
            "seconds": ".0f",
            "ratio": ".2f",
        },
        rows=rows,
    )


def _row(what: str, found: Sequence[Valued], full: Valued, seconds: float) -> dict[str, Any]:
    """One milestone: what its schedules are worth, and how many of their front are confirmed."""
    points = [value.point for value in found]
    front = [found[i] for i in non_dominated(points)]
    return {
        "what": what,
        "hypervolume": hypervolume_in_box(points, full.point) or 0.0,
        "confirmed": f"{sum(value.confirmed for value in front)} of {len(front)}",
        "seconds": seconds,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost_to_presets",
        description=(__doc__ or "").partition("\n\n")[0],
    )
    parser.add_argument("run", help="a finished run: its folder, or its name below runs/")
    parser.add_argument("--num-steps", type=int, default=400, help="fine-tune of the presets")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--rows", type=Path, help="default: cost_to_presets.jsonl in the run")
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args(arguments)
    folder = RunFolder.existing(args.run)
    results = RunResults.load(folder)
    settings, evaluation = results.settings, results.settings.evaluation
    full_entry = results.full()
    if not results.hand_made() or full_entry is None:
        parser.error(f"{args.run} measured no presets, or not full depth")
    if evaluation.control_samples:
        parser.error(
            f"the FIDs of {args.run} are corrected by control images and compare with no preset's"
        )
    if evaluation.seeds_per_trial > 1:
        parser.error(
            f"the FIDs of {args.run} are means over {evaluation.seeds_per_trial} fine-tunes and "
            "compare with no preset's single one"
        )
    fresh = bool(evaluation.confirm_seeds) and not evaluation.confirm_steps
    fresh = fresh and evaluation.confirm_samples in (None, evaluation.num_samples)
    seeds = tuple(evaluation.confirm_seeds_used) if fresh else (evaluation.seed,)
    jobs = {
        entry.trial: Job(
            depths=entry.depths,
            num_steps=0 if entry.name == FULL else args.num_steps,
            training_seed=settings.search.seed,
            evaluation_seeds=seeds,
            num_samples=evaluation.num_samples,
        )
        for entry in (full_entry, *results.hand_made())
    }
    rows = args.rows or folder.root / "cost_to_presets.jsonl"
    known = measure_all(jobs.values(), folder.root, rows, args.jobs)
    features = known[jobs[full_entry.trial].key]["features"]
    full, *presets = [
        measured_alone(entry, known[jobs[entry.trial].key], fresh=fresh)
        for entry in (full_entry, *results.hand_made())
    ]
    seconds = [record.seconds for record in results.records if record.complete]
    own = f"the search's own FID, seed {evaluation.seed}, which flatters what it chose"
    shared = settings.profile.num_steps if settings.profile is not None else 0
    protocol = (
        f"Presets after {args.num_steps} steps, trials after {settings.recipe.num_steps} of their "
        f"own and {shared} shared; FID "
        f"({features}, n={evaluation.num_samples}): "
        + (
            f"mean over the fresh seeds {seeds[0]} to {seeds[-1]} for the presets and the trials "
            f"that the run confirmed, for others {own}"
            if fresh
            else f"{own}; no confirmed FID of this run compares with it"
        )
        + f"; training seed {settings.search.seed}; latencies of the run's table; seconds of "
        "busy workers, the run's by its own record."
    )
    table = cost_table(
        results.entries, seconds, Costs.load(folder), presets, full, protocol, fresh=fresh
    )
    print(table.to_markdown())
    if args.json:
        write_text(args.json, json.dumps(asdict(table), indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
