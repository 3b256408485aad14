"""What turns at every step are worth where two schedules' latencies are compared.

    python -m benchmarks.latency_turns digits_dit --schedule "10 9 8 8 8 8 3 2 2 2" [--json F.json]

Times a preset, the preset once more, another schedule, and full depth: in rounds whose schedules
take turns at every step, as ``schedsearch`` does on a CPU, and in rounds of whole runs. Rounds
of both kinds follow one another, so that both see the same machine. The first kind is also
summarised as if its steps had not been timed one by one.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.result_tables import Row, Table
from schedsearch.files.atomic import write_text
from schedsearch.backbones.weights.checkpoint import load_backbone_from
from schedsearch.backbones.guidance import learns_variance
from schedsearch.config import read_settings
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.clocks import CpuClock
from schedsearch.evaluation.latency import LatencyBench, latency_protocol
from schedsearch.evaluation.latency_rounds import time_round
from schedsearch.evaluation.latency_summary import Round, summarise
from schedsearch.schedules.hand_made import FULL, preset_for
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.argument import resolve_schedule

PRESET = "D7-DiT"
AGAIN = "the same again"

DRAWN = 9
"""Rounds of a short measurement."""

DRAWS = 300
"""Such measurements drawn from all rounds."""


class WholeRuns(CpuClock):
    """The wall clock, without turns inside a round."""

    in_turns = False


def rows_of(
    way: str, rounds: Sequence[Round], blocks: Mapping[str, int], rng: np.random.Generator
) -> list[Row]:
    """What rounds of one kind say about every schedule beside the preset."""
    found = summarise(rounds, PRESET)
    draws = [
        summarise([rounds[k] for k in rng.permutation(len(rounds))[:DRAWN]], PRESET)
        for _ in range(DRAWS)
    ]
    left = 1.0 - DRAWN / len(rounds)  # drawn without replacement
    rows: list[Row] = []
    for name in (n for n in rounds[0] if n != PRESET):
        scatter = statistics.pstdev(draw[name].acceleration for draw in draws)
        rows.append(
            {
                "turns": way,
                "schedule": name,
                "ms": found[name].median_ms,
                "by_blocks": blocks[name] / blocks[PRESET] - 1.0,
                "measured": -found[name].acceleration,
                "half_width": found[name].acceleration_half_width,
                "scatter": scatter / left**0.5,
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency_turns",
        description=(__doc__ or "").partition("\n\n")[0],
    )
    parser.add_argument("space", nargs="?", default="digits_dit")
    parser.add_argument("--schedule", required=True, help="to compare with the preset")
    parser.add_argument("--rounds", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the orders")
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args(arguments)

    settings = read_settings(args.space)
    net = load_backbone_from(settings.backbone, "cpu")
    process = build_process(settings.diffusion)
    solver = build_solver(settings.solver, process, learned_variance=learns_variance(net))
    protocol = latency_protocol(net, settings.solver, settings.evaluation, 1)
    preset = preset_for(PRESET, net.num_exit_blocks)
    if args.rounds <= DRAWN:
        parser.error(f"--rounds must be above {DRAWN}, but is {args.rounds}")
    if args.schedule in (FULL, PRESET):
        parser.error(f"{args.schedule} is timed anyway; name another schedule")
    schedules = {
        FULL: ExitSchedule.flat(net.num_exit_blocks),
        PRESET: preset,
        AGAIN: preset,
        args.schedule: resolve_schedule(args.schedule, num_exit_blocks=net.num_exit_blocks),
    }
    blocks = {name: sum(schedule.visited(solver.times)) for name, schedule in schedules.items()}
    ways = {"every step": CpuClock(), "every run": WholeRuns()}
    rounds: dict[str, list[Round]] = {way: [] for way in ways}
    rng = np.random.default_rng(args.seed)
    with LatencyBench(net, solver, protocol) as bench:
        work = {name: bench.sampling_run(schedule) for name, schedule in schedules.items()}
        time_round(work, CpuClock(), rng)  # to warm up
        for _ in range(args.rounds):
            for way in rng.permutation(list(ways)).tolist():
                rounds[way].append(time_round(work, ways[way], rng))
    sums: list[Round] = [
        {name: [sum(ms)] for name, ms in times.items()} for times in rounds["every step"]
    ]
    rounds = {"every step": rounds["every step"], "every step, sums of runs": sums, **rounds}
    rows = [row for way, kind in rounds.items() for row in rows_of(way, kind, blocks, rng)]
    table = Table(
        title=f"Latency beside {PRESET}, by how often schedules take turns",
        note=f"{protocol.device}, {protocol.arithmetic}, batch {protocol.batch}, "
        f"{protocol.threads} thread, {protocol.solver} with {protocol.num_steps} steps; "
        f"{args.rounds} rounds of each kind, which follow one another. By blocks: ratio of the "
        "block counts, which leaves out what a call costs without blocks. Measured: against "
        "the preset, with its 95 % half-width. Scatter: standard deviation of what "
        f"{DRAWN} of the rounds say. Sums of runs: the first kind's rounds, as if each run had "
        "been timed as a whole.",
        columns={
            "turns": "",
            "schedule": "",
            "ms": ".1f",
            "by_blocks": "+.2%",
            "measured": "+.2%",
            "half_width": ".2%",
            "scatter": ".2%",
        },
        rows=rows,
    )
    print(table.to_markdown())
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json.dumps(asdict(table), indent=1) + "\n")
        write_text(args.json.with_suffix(".md"), table.to_markdown())


if __name__ == "__main__":
    main()
