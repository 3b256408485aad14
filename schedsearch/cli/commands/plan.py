"""``schedsearch plan``: plans of full steps, reuse and exits, calibrated without training."""

from __future__ import annotations

import argparse

from schedsearch.cli.arguments import add_cluster, add_space_and_output, space_and_output
from schedsearch.cli.commands.compare import (
    add_output_format,
    measure_and_print,
    print_dry_run,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``plan``."""
    add_space_and_output(parser, output_help="plans that it holds are kept")
    parser.add_argument(
        "--target-latency",
        metavar="SHARE",
        action="append",
        type=_share,
        default=[],
        help="plan for this share of full depth's measured latency, above 0 and below 1; may be "
        "repeated (default: plan.targets; with --target-blocks none)",
    )
    parser.add_argument(
        "--target-blocks",
        metavar="SHARE",
        action="append",
        type=_share,
        default=[],
        help="plan for this share of full depth's blocks, above 0 and below 1; may be repeated "
        "(default: plan.target_blocks; with --target-latency none)",
    )
    add_cluster(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the rows and the time that they take, start nothing",
    )
    add_output_format(parser)


def take_action(args: argparse.Namespace) -> int:
    """Calibrate, plan, measure and print."""
    import dataclasses

    from schedsearch.runs.methods.digests import rivals_in
    from schedsearch.settings.plan import PlanSettings
    from schedsearch.settings.rivals import StepsRival

    settings, folder = space_and_output(args)
    plan = settings.plan or PlanSettings()
    if args.target_latency or args.target_blocks:
        plan = dataclasses.replace(
            plan,
            targets=tuple(dict.fromkeys(args.target_latency)),
            target_blocks=tuple(dict.fromkeys(args.target_blocks)),
        )
    settings = dataclasses.replace(settings, plan=plan)
    only = [
        name
        for name, entry in rivals_in(settings).items()
        if isinstance(entry, PlanSettings | StepsRival)
    ]
    if args.dry_run:
        return print_dry_run(settings, folder, only)
    return measure_and_print(settings, folder, args, only=only)


def _share(text: str) -> float:
    """Read a share of full depth."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and below 1, got {text!r}")
    return share
