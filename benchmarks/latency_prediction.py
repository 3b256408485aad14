"""How well the latency table predicts measured sampling times.

    python benchmarks/latency_prediction.py digits_dit --random 10 --repeats 7 [--json F.json]

Measures the calls and flat runs that the table is fitted to, the presets of the space and
random schedules, all in the same rounds, and prints predicted beside measured milliseconds.
``--apart`` measures the table first, as a search has to; what the machine's pace drifts in
between is then part of the error (but not of the ratio to full depth).
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch

from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.weights.checkpoint import load_backbone_from
from schedsearch.config import read_settings
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.clocks import build_clock
from schedsearch.evaluation.latency import LatencyBench, latency_protocol
from schedsearch.evaluation.latency_rounds import summarise, time_rounds
from schedsearch.evaluation.latency_table import table_from_times, table_work
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, HAND_MADE, preset_for
from schedsearch.settings import StudySettings


def choose_schedules(
    settings: StudySettings, num_blocks: int, num_random: int, seed: int
) -> dict[str, ExitSchedule]:
    """Full depth, the space's presets and schedules spread evenly over the block counts."""
    space = settings.space.build()
    named = {FULL: ExitSchedule.flat(num_blocks, space.num_intervals)}
    for name in settings.warm_start:
        if isinstance(name, str) and name in HAND_MADE:
            named[name] = preset_for(
                name, num_blocks, min_depth=space.min_depth, max_depth=space.max_depth
            )
    rng = np.random.default_rng(seed)
    weights = [1] * space.num_intervals
    edges = np.linspace(
        space.min_depth * space.num_intervals,
        space.max_depth * space.num_intervals,
        num_random + 1,
    )
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        schedule = space.sample_with_blocks(rng, round(low), round(high), weights)
        if schedule is not None:
            named[f"random {index}"] = schedule
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="?", default="digits_dit")
    parser.add_argument("--random", type=int, default=10, help="random schedules")
    parser.add_argument("--repeats", type=int, help="rounds; default: the space's")
    parser.add_argument("--batch", type=int, help="images at once; default: the space's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true", help="measure the table beforehand")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()

    overrides = [] if args.batch is None else [f"evaluation.latency_batch={args.batch}"]
    settings = read_settings(args.space, overrides)
    repeats = args.repeats or settings.evaluation.latency_repeats
    net = load_backbone_from(settings.backbone, args.device)
    solver = build_solver(
        settings.solver,
        build_process(settings.diffusion),
        learned_variance=learns_variance(net),
    )
    protocol = latency_protocol(net, settings.solver, settings.evaluation, args.threads)
    schedules = choose_schedules(settings, net.num_exit_blocks, args.random, args.seed)

    started = time.perf_counter()
    with LatencyBench(net, solver, protocol) as bench:
        clock = build_clock(bench.device)
        table_runs = table_work(bench, settings.space.min_depth, net.num_exit_blocks)
        runs = {name: bench.sampling_run(schedule) for name, schedule in schedules.items()}
        if args.apart:
            table_times = time_rounds(table_runs, clock, repeats, args.seed)
            times = time_rounds(runs, clock, repeats, args.seed)
        else:
            table_times = times = time_rounds(table_runs | runs, clock, repeats, args.seed)
    table = table_from_times(table_times, solver, protocol)
    measured = summarise({name: times[name] for name in runs}, FULL)
    total_seconds = time.perf_counter() - started

    rows = []
    for name, schedule in schedules.items():
        predicted = table.predict(schedule, solver.times)
        found = measured[name]
        rows.append(
            {
                "name": name,
                "depths": list(schedule.depths),
                "predicted_ms": predicted,
                "measured_ms": found.median_ms,
                "half_width_ms": found.half_width_ms,
                "acceleration": found.acceleration,
                "relative_error": predicted / found.median_ms - 1.0,
            }
        )
    errors = [abs(row["relative_error"]) for row in rows]
    # The savings, which a search compares, do not suffer when the whole machine slows down.
    ratios = [
        abs((row["predicted_ms"] / rows[0]["predicted_ms"]) / (1 - row["acceleration"]) - 1)
        for row in rows
    ]
    summary = {
        "space": args.space,
        "protocol": protocol.to_dict(),
        "repeats": repeats,
        "torch": torch.__version__,
        "table": table.to_dict(),
        "apart": args.apart,
        "total_seconds": total_seconds,
        "mean_error": float(np.mean(errors)),
        "max_error": float(np.max(errors)),
        "mean_ratio_error": float(np.mean(ratios)),
        "max_ratio_error": float(np.max(ratios)),
        "schedules": rows,
    }
    print(
        f"{protocol.device}, {protocol.dtype}, batch {protocol.batch}, {protocol.threads} thread"
    )
    print(
        f"table: c0 {table.c0_ms:.2f} ms + {table.num_calls} x ({table.a_ms:.3f} + "
        f"{table.b_ms:.3f} depth) ms; residual mean {table.mean_residual:.1%}, max "
        f"{table.max_residual:.1%}; {total_seconds:.0f} s in all"
    )
    print(f"{'schedule':<12}{'predicted':>10}{'measured':>10}{'+-':>7}{'error':>8}{'saved':>8}")
    for row in rows:
        print(
            f"{row['name']:<12}{row['predicted_ms']:>10.1f}{row['measured_ms']:>10.1f}"
            f"{row['half_width_ms']:>7.1f}{row['relative_error']:>8.1%}{row['acceleration']:>8.1%}"
        )
    print(f"latency error: mean {np.mean(errors):.1%}, max {np.max(errors):.1%}")
    print(f"ratio to full: mean {np.mean(ratios):.1%}, max {np.max(ratios):.1%}")
    if args.json:
        args.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
