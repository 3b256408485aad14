"""``schedsearch presets``: the papers' hand-made schedules, and how they scale."""

from __future__ import annotations

import argparse

from schedsearch.cli.arguments import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``presets``."""
    parser.add_argument(
        "--depth",
        metavar="D",
        type=count,
        help="scale to a model with D exit blocks (default: the papers' own models)",
    )
    parser.add_argument(
        "--clock",
        choices=("ddpm", "flow"),
        default="ddpm",
        help="flow: moved to flow matching at equal signal-to-noise ratios (default: %(default)s)",
    )


def take_action(args: argparse.Namespace) -> int:
    """Print the presets as a table."""
    from schedsearch.exceptions import ExitCode
    from schedsearch.schedules.hand_made import HAND_MADE, MOVED, preset_for

    head = ("preset", "blocks", "depths, data -> noise", "mean", "of full", "paper: time saved")
    rows = [head]
    moved = args.clock == "flow"
    for paper_name, row in HAND_MADE.items():
        name = paper_name + MOVED if moved else paper_name
        blocks = args.depth or row.num_exit_blocks
        depths = preset_for(name, blocks).depths
        mean = sum(depths) / len(depths)
        rows.append(
            (
                name,
                str(blocks),
                " ".join(f"{depth:>{len(str(blocks))}}" for depth in depths),
                f"{mean:.1f}",
                f"{mean / blocks:.0%}",
                "-" if moved else f"{row.reported_acceleration:.1%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        line = "  ".join(
            f"{cell:<{width}}" if i in (0, 2) else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        print(line.rstrip())
    if moved:
        print(
            f"\n{MOVED}: on the clock 1000 sigma. Each interval has the depth that the paper's "
            "schedule runs at the signal-to-noise ratio of its middle."
        )
    if args.depth:
        print(
            f"\nScaled: depth d of D blocks becomes floor(d * {args.depth} / D + 1/2), "
            f"at least 1 and at most {args.depth}. The time saved is the papers', at their depth."
        )
    return ExitCode.DONE
