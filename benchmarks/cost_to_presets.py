"""What a search costs until its front is worth that of the hand-made schedules, fine-tuned long.

    python -m benchmarks.cost_to_presets RUN --num-steps 400 --jobs 2

Without a search, a user fine-tunes the presets one by one. This does so with the run's own
seeds, and compares their hypervolume and cost with those of the run after each of its trials.
Costs are seconds that workers were busy. The hypervolume is the run's: a share of the box up to
3 x FID and 1.01 x latency of full depth; all latencies are those of the run's latency table, so
that schedules compare which nobody timed. Full depth belongs to both fronts. Rows are kept, and
the same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.result_tables import Table
from benchmarks.retraining import Job, measure_all
from schedsearch.atomic import write_text
from schedsearch.hand_made import FULL
from schedsearch.search import costs as stages
from schedsearch.search.costs import Costs
from schedsearch.search.results import FrontEntry, RunResults
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.volumes import hypervolume_in_box

BEFORE_TRIALS = (stages.CHECKS, stages.PROFILE)
AFTER_TRIALS = (stages.FINAL_LATENCY, stages.RUNOFF, stages.PROMOTION, stages.CONFIRMATION)

Point = tuple[float, float]


def cost_table(
    entries: Sequence[FrontEntry],
    seconds: Sequence[float],
    costs: Costs,
    presets: Sequence[tuple[Point, float]],
    protocol: str,
) -> Table:
    """Hypervolume and cost of the presets, and of a run up to each milestone.

    Args:
        entries: Trials in the order in which they ended; full depth among them.
        seconds: What each took.
        costs: Of the whole run.
        presets: ((FID, predicted latency), seconds) of each preset, fine-tuned long.
        protocol: How it was measured, for people.
    """
    full = next(_point(e) for e in entries if e.name == FULL)
    goal = hypervolume_in_box([full, *(point for point, _ in presets)], full) or 0.0
    price = sum(cost for _, cost in presets)
    spent = costs.device_seconds_by_stage()
    before = sum(spent.get(stage, 0.0) for stage in BEFORE_TRIALS)
    failed = spent.get(stages.FAILED_TRIALS, 0.0) + spent.get(stages.INTERRUPTED, 0.0)
    rows = [_row("presets, fine-tuned one by one", goal, price, price)]
    for title, chosen in (
        ("search, all trials", entries),
        ("search, its proposals and full depth alone", [e for e in entries if e.name is None]),
    ):
        for count in range(1, len(entries) + 1):
            found = [_point(e) for e in entries[:count] if e in chosen]
            volume = hypervolume_in_box([full, *found], full) or 0.0
            if volume >= goal:
                used = before + failed + sum(seconds[:count])
                rows.append(_row(f"{title}: after trial {count}", volume, used, price))
                break
        else:
            rows.append(_row(f"{title}: never", volume, costs.device_seconds, price))
    everything = hypervolume_in_box([_point(e) for e in entries], full) or 0.0
    after = sum(spent.get(stage, 0.0) for stage in AFTER_TRIALS)
    used = before + failed + sum(seconds)
    rows.append(_row("search, all trials, before confirmation", everything, used, price))
    rows.append(_row("search, confirmation included", everything, used + after, price))
    return Table(
        title="Cost of a front worth the hand-made schedules'",
        note=protocol,
        columns={"what": "", "hypervolume": ".4f", "seconds": ".0f", "ratio": ".2f"},
        rows=rows,
    )


def _point(entry: FrontEntry) -> Point:
    return entry.fid, entry.predicted_latency_ms


def _row(what: str, volume: float, seconds: float, price: float) -> dict[str, Any]:
    return {"what": what, "hypervolume": volume, "seconds": seconds, "ratio": seconds / price}


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
    if not results.hand_made() or results.full() is None:
        parser.error(f"{args.run} measured no presets, or not full depth")
    jobs = {
        preset.trial: Job(
            depths=preset.depths,
            num_steps=args.num_steps,
            training_seed=settings.search.seed,
            evaluation_seeds=(evaluation.seed,),
            num_samples=evaluation.num_samples,
        )
        for preset in results.hand_made()
    }
    rows = args.rows or folder.root / "cost_to_presets.jsonl"
    known = measure_all(jobs.values(), folder.root, rows, args.jobs)
    presets = []
    for preset in results.hand_made():
        row = known[jobs[preset.trial].key]
        cost = row["finetune_seconds"] + row["measure_seconds"]
        presets.append(((row["fids"][0], preset.predicted_latency_ms), cost))
    seconds = [record.seconds for record in results.records if record.complete]
    protocol = (
        f"Presets after {args.num_steps} steps, trials after {settings.recipe.num_steps}; FID "
        f"({next(iter(known.values()))['features']}, n={evaluation.num_samples}, seed "
        f"{evaluation.seed}), training seed {settings.search.seed}; latencies of the run's table; "
        "seconds of busy workers, the run's by its own record."
    )
    table = cost_table(results.entries, seconds, Costs.load(folder), presets, protocol)
    print(table.to_markdown())
    if args.json:
        write_text(args.json, json.dumps(asdict(table), indent=1) + "\n")


if __name__ == "__main__":
    main()
