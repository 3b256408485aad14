"""``schedsearch compare``: measures the rivals of a space, or shows finished comparisons."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.cli.arguments import (
    add_cluster,
    add_format,
    add_output,
    add_overrides,
    announce_dry_run,
    output_file,
)
from schedsearch.cli.signals import stopping_with
from schedsearch.exceptions import ConfigError

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.methods.results import MethodResults
    from schedsearch.settings import StudySettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``compare``."""
    parser.add_argument(
        "targets",
        metavar="SPACE|RUN",
        nargs="+",
        help="a search space whose rivals are measured, or run folders to show together",
    )
    measuring = parser.add_argument_group("with a search space")
    add_overrides(measuring)
    add_output(measuring, "an existing comparison resumes")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help="measure or show this entry or row alone, and full depth; may be repeated",
    )
    add_cluster(measuring)
    measuring.add_argument(
        "--dry-run",
        action="store_true",
        help="print the rows and the time that they take, start nothing",
    )
    add_output_format(parser)


def add_output_format(parser: argparse.ArgumentParser) -> None:
    """Declare how methods are printed."""
    showing = parser.add_argument_group("what to print")
    add_format(showing, "table", "json", "csv", "markdown")
    showing.add_argument(
        "--plot",
        metavar="FILE.png",
        type=output_file(".png"),
        help="also draw all methods into this file",
    )


def take_action(args: argparse.Namespace) -> int:
    """Measure a space, or show runs."""
    if all(_is_run(target) for target in args.targets):
        for given, name in (
            (args.overrides, "-o"),
            (args.output, "--output"),
        ):
            if given:
                raise ConfigError(
                    f"{name} belongs to a search space, but {args.targets[0]} is a run folder; "
                    "name the space to measure it."
                )
        return _show(args)
    if len(args.targets) > 1:
        raise ConfigError(
            "compare takes one search space, or run folders; got "
            f"{', '.join(args.targets)}. A run folder holds space.yaml."
        )
    return _measure(args)


def _is_run(target: str) -> bool:
    """Whether a target is a run folder; a name that ships is a space."""
    from schedsearch.config.reading import shipped_spaces

    if Path(target).is_file() or target in shipped_spaces():
        return False
    return any((path / "space.yaml").is_file() for path in (Path(target), Path("runs") / target))


def _measure(args: argparse.Namespace) -> int:
    from schedsearch.config import read_settings
    from schedsearch.runs.folder import RunFolder

    settings = read_settings(args.targets[0], args.overrides)
    folder = RunFolder(Path(args.output or f"runs/{settings.name}"))
    if args.dry_run:
        return print_dry_run(settings, folder, args.only)
    return measure_and_print(settings, folder, args, only=args.only)


def measure_and_print(
    settings: StudySettings, folder: RunFolder, args: argparse.Namespace, *, only: Sequence[str]
) -> int:
    """Measure the rows of a space in a run folder, then print them."""
    from schedsearch.report.console import progress_console
    from schedsearch.report.live import RunView
    from schedsearch.report.method_plot import plot_methods
    from schedsearch.report.method_tables import methods_note
    from schedsearch.runs.results import hypervolume_of
    from schedsearch.search.compare_space import compare_space

    progress = progress_console()
    if not args.quiet:
        progress.print(f"run folder: {folder.shown}", soft_wrap=True, highlight=False)
    with (
        stopping_with("The same command resumes; measured rows are kept."),
        RunView(progress, hypervolume_of, quiet=args.quiet) as view,
    ):
        outcome = compare_space(
            settings,
            folder,
            view,
            only=only,
            address=args.address,
            draw=plot_methods,
            methods_note=methods_note,
        )
    print_methods({folder.shown: outcome.results}, args)
    return int(outcome.exit_code)


def print_dry_run(settings: StudySettings, folder: RunFolder, only: Sequence[str]) -> int:
    """Print the rows that would be measured, and the time."""
    announce_dry_run(settings)
    from schedsearch.formatting import duration
    from schedsearch.search.compare_space import wanted_rows
    from schedsearch.search.estimates import estimate_comparison
    from schedsearch.search.preflight import check_before_start
    from schedsearch.search.stages.rivals import training_seeds
    from schedsearch.search.start import refuse_other_space

    refuse_other_space(settings, folder)
    ready = check_before_start(settings, folder, dry_run=True, with_twins=False)
    rows = wanted_rows(ready, only)
    seconds = estimate_comparison(ready, rows).wall
    print(
        f"space: {settings.name}, {len(rows)} rows, training seeds {len(training_seeds(settings))}"
    )
    for row in rows:
        twin = ", with its static twin" if row.has_twin else ""
        trains = f"  network {row.net}" if row.net else "  no training"
        print(f"  {row.name:<24}{trains}{twin}")
    print(f"time, roughly: {duration(seconds)} with {settings.resources.num_workers} workers")
    print("Dry run: nothing was started and nothing was written.")
    return 0


def _show(args: argparse.Namespace) -> int:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.methods.results import MethodResults

    folders = [RunFolder.existing(target) for target in args.targets]
    print_methods({f.shown: MethodResults.load(f).only(args.only) for f in folders}, args)
    return 0


def print_methods(parts: dict[str, MethodResults], args: argparse.Namespace) -> None:
    """Print methods by run folder in the format asked for, and draw them if asked.

    Raises:
        ConfigError: If runs have unequal protocols.
    """
    from schedsearch.report import method_tables
    from schedsearch.report.console import result_console
    from schedsearch.report.method_plot import plot_methods
    from schedsearch.runs.front_files import rows_as
    from schedsearch.runs.methods.joined import JoinedMethods

    methods = JoinedMethods(parts)
    if args.plot is not None:
        plot_methods(methods, Path(args.plot))
    if args.format in ("json", "csv"):
        print(rows_as(args.format, methods.as_rows()), end="")
    elif args.format == "markdown":
        print(method_tables.methods_markdown(methods))
    else:
        console = result_console()
        console.print(method_tables.methods_table(methods))
        lines = method_tables.front_lines(methods)
        for run, part in parts.items():
            lines += [f"{run}:"] if len(parts) > 1 else []
            lines += method_tables.closing_lines(part, run)
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False)
