"""``schedsearch check``: validates a search space file; imports neither torch nor Ray."""

from __future__ import annotations

import argparse

from schedsearch.cli.arguments import add_overrides, add_space


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``check``."""
    add_space(parser)
    add_overrides(parser)


def take_action(args: argparse.Namespace) -> int:
    """Print what a valid file asks for; the mistakes of any other come as an exception."""
    from schedsearch.config import find_space, num_exit_blocks_of, read_settings
    from schedsearch.exceptions import ExitCode
    from schedsearch.warm_starts import read_warm_starts

    path = find_space(args.space)
    settings = read_settings(path, args.overrides)
    depth = num_exit_blocks_of(settings.backbone)
    # The depth of a class of someone else is known once it is built; `run` checks it then.
    starts = read_warm_starts(settings, depth or settings.space.max_depth, str(path))

    space, backbone = settings.space, settings.backbone
    print(f"{path} is valid")
    rows = [
        ("name", settings.name),
        (
            "backbone",
            f"{backbone.name or backbone.family}, "
            f"{'unknown' if depth is None else depth} exit blocks, "
            f"weights: {backbone.checkpoint or 'none'}",
        ),
        (
            "space",
            f"{space.build().size():,} schedules: {space.num_intervals} intervals, depths "
            f"{space.min_depth} to {space.max_depth}, {space.monotone}",
        ),
        (
            "search",
            f"{settings.search.n_trials} trials, sampler {settings.search.sampler}, "
            f"{settings.resources.num_workers} workers",
        ),
        ("solver", f"{settings.solver.name}, {settings.solver.num_steps} steps"),
        (
            "evaluation",
            f"{settings.evaluation.num_samples} samples, {settings.evaluation.features} features",
        ),
    ]
    width = max((len(start.label) for start in starts), default=0)
    rows += [
        ("warm start" if i == 0 else "", f"{start.label:<{width}}  {start.schedule}")
        for i, start in enumerate(starts)
    ]
    for title, text in rows:
        print(f"  {title:<10}  {text}")
    return ExitCode.DONE
