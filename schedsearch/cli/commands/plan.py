"""``schedsearch plan``: plans of full steps, reuse and exits, calibrated without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from schedsearch.cli.arguments import add_overrides
from schedsearch.cli.commands.compare import (
    add_output_format,
    measure_and_print,
    print_dry_run,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``plan``."""
    parser.add_argument("space", metavar="SPACE", help="a search space, or the name of one")
    add_overrides(parser)
    parser.add_argument(
        "--target-latency",
        metavar="SHARE",
        action="append",
        type=_share,
        default=[],
        help="plan for this share of full depth's measured latency; may be repeated",
    )
    parser.add_argument(
        "--target-blocks",
        metavar="SHARE",
        action="append",
        type=_share,
        default=[],
        help="plan for this share of full depth's blocks; may be repeated",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="run folder (default: runs/NAME); measured plans are kept",
    )
    parser.add_argument("--address", metavar="ADDR", help="join this Ray cluster")
    parser.add_argument(
        "--dry-run", action="store_true", help="print plans and time, start nothing"
    )
    add_output_format(parser)


def take_action(args: argparse.Namespace) -> int:
    """Calibrate, plan, measure and print."""
    import dataclasses

    from schedsearch.config import read_settings
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.methods.digests import rivals_in
    from schedsearch.settings.plan import PlanSettings
    from schedsearch.settings.rivals import StepsRival

    settings = read_settings(args.space, args.overrides)
    plan = settings.plan or PlanSettings()
    if args.target_latency or args.target_blocks:
        plan = dataclasses.replace(
            plan,
            targets=tuple(dict.fromkeys(args.target_latency)),
            target_blocks=tuple(dict.fromkeys(args.target_blocks)),
        )
    settings = dataclasses.replace(settings, plan=plan)
    folder = RunFolder(Path(args.output or f"runs/{settings.name}"))
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
        raise argparse.ArgumentTypeError(f"a share lies between 0 and 1, got {text!r}")
    return share
