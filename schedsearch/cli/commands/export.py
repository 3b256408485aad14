"""``schedsearch export``: the chosen schedule as a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.cli.arguments import add_pick_rules, add_run, output_file
from schedsearch.formatting import for_shell
from schedsearch.schedules.hand_made import FULL

if TYPE_CHECKING:
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.results import RunResults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``export``."""
    add_run(parser)
    add_pick_rules(parser, with_trial=True)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.yaml",
        type=output_file(".yaml", ".yml"),
        required=True,
        help="schedule or method file to write",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE.safetensors",
        type=output_file(".safetensors"),
        help="also write the fine-tuned weights (EMA) of the trial",
    )


def take_action(args: argparse.Namespace) -> int:
    """Write the schedule file."""
    from schedsearch.cli.commands.inspect import open_run
    from schedsearch.runs.export import export_method, export_schedule, has_adapters

    folder, results = open_run(args.run)
    output = Path(args.output)
    weights = None if args.weights is None else Path(args.weights)
    if args.method is not None:
        export_method(folder, args.method, output, weights)
        also = f", weights in {weights}" if weights is not None and weights.is_file() else ""
        print(f"{output}: {args.method}{also}")
        return 0
    entry, why = _choose(results, args)
    export_schedule(folder, results, entry, output, weights)
    print(f"{output}: trial {entry.trial} [{' '.join(map(str, entry.depths))}], {why}")
    if has_adapters(folder, entry.trial):
        print(
            f"{output} is a method file, since a schedule file cannot hold exit adapters; use "
            f"`schedsearch sample SPACE --method {for_shell(output)}`"
        )
    if weights is not None:
        shared = results.settings.recipe.weights == "shared" and entry.name != FULL
        serves = "; the same file serves every schedule of this run but full depth" * shared
        megabytes = weights.stat().st_size / 1e6
        print(f"{weights}: fine-tuned weights (EMA), {megabytes:.1f} MB{serves}")
    return 0


def _choose(results: RunResults, args: argparse.Namespace) -> tuple[FrontEntry, str]:
    from schedsearch.runs.pick import pick

    if args.trial is None:
        return pick(
            results.require_front(),
            results.full(),
            knee=args.knee,
            max_latency_ms=args.max_latency_ms,
            max_fid=args.max_fid,
            max_fid_increase=args.max_fid_increase,
        )
    return results.require_entry(args.trial), "as asked for"
