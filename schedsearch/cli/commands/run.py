"""``schedsearch run``: the search, and its resumption."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.cli.arguments import (
    add_cluster,
    add_space_and_output,
    announce_dry_run,
    space_and_output,
)
from schedsearch.cli.signals import stopping_with

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.results import RunResults
    from schedsearch.search.preflight import Preflight
    from schedsearch.settings import StudySettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``run``."""
    add_space_and_output(parser, output_help="an existing run is resumed to search.n_trials")
    add_cluster(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="do everything up to the first trial, print an estimate, start nothing",
    )


def take_action(args: argparse.Namespace) -> int:
    """Run or resume the search."""
    settings, folder = space_and_output(args)
    if args.dry_run:
        return _dry_run(settings, folder, args.address)
    with stopping_with("The same command resumes; finished trials are kept."):
        return _run(settings, folder, address=args.address, quiet=args.quiet)


def _run(settings: StudySettings, folder: RunFolder, *, address: str | None, quiet: bool) -> int:
    from schedsearch.report.console import progress_console, result_console
    from schedsearch.report.final import print_report
    from schedsearch.report.live import RunView
    from schedsearch.report.method_tables import methods_note
    from schedsearch.report.plots import plot_front
    from schedsearch.runs.methods.results import MethodResults
    from schedsearch.runs.profile_files import load_error_table
    from schedsearch.runs.results import hypervolume_of
    from schedsearch.search.campaign import run_search

    def draw(results: RunResults, path: Path) -> None:
        plot_front(
            results, path, load_error_table(folder, settings), MethodResults.load(folder).plans()
        )

    progress = progress_console()
    if not quiet:
        progress.print(f"run folder: {folder.shown}", soft_wrap=True, highlight=False)
    with RunView(progress, hypervolume_of, quiet=quiet) as view:
        outcome = run_search(
            settings,
            folder,
            view,
            address=address,
            plot_front=draw,
            methods_note=methods_note,
        )
    results = outcome.results
    console = result_console()
    print_report(
        console,
        results,
        folder.shown,
        costs=outcome.costs,
        methods=MethodResults.load(folder),
    )
    if outcome.exhausted:
        console.print("The space is exhausted: every different schedule has been tried.")
    if outcome.num_failed:
        console.print(
            f"{outcome.num_failed} schedule(s) ended without a result; see log.txt in their "
            "folders under trials/.",
            style="red",
        )
    if outcome.out_of_budget:
        console.print(
            "The budget is used up before search.n_trials. The same command with a larger "
            "search.budget goes on.",
            style="yellow",
        )
    return int(outcome.exit_code)


def _dry_run(settings: StudySettings, folder: RunFolder, address: str | None) -> int:
    """Validate, load, count and estimate; leaves nothing behind."""
    announce_dry_run(settings)
    from schedsearch.search.preflight import check_before_start
    from schedsearch.search.runners import build_runner
    from schedsearch.search.start import identity_of, refuse_other_space

    build_runner(settings, folder, address)
    refuse_other_space(settings, folder)
    ready = check_before_start(settings, folder, dry_run=True)
    if folder.space_file.is_file():
        identity_of(ready, folder)
    space = settings.space.build()
    full = ready.latency.full_ms
    print(f"space: {settings.name}, {space.size():,} schedules, {settings.search.n_trials} trials")
    print(f"run folder: {folder.shown} ({'resumes' if folder.space_file.exists() else 'new'})")
    protocol = ready.table.protocol
    print(
        f"latency, predicted for a batch of {protocol.batch} on {protocol.device} "
        f"({protocol.arithmetic}, {protocol.threads} CPU threads): full depth {full:.1f} ms"
    )
    for warm in ready.warm_starts:
        ms = ready.predict_ms(warm.schedule)
        print(f"  {warm.label:<12} {warm.schedule!s:<32} {ms:9.1f} ms  saves {1 - ms / full:.1%}")
    _print_estimates(ready)
    print(f"disk, roughly: {ready.disk_bytes() / 1e6:.0f} MB")
    print("Dry run: nothing was started and nothing was written.")
    return 0


def _print_estimates(ready: Preflight) -> None:
    from schedsearch.formatting import duration
    from schedsearch.search.estimates import estimate_run

    found = estimate_run(ready)
    check = f"check of exit adapters {duration(found.start)}, " if found.start else ""
    print(
        f"time, roughly: {duration(found.wall)} in all: plans {duration(found.plans)}, trials "
        f"{duration(found.trials)} and confirmation {duration(found.confirmation)} on "
        f"{found.num_workers} worker(s), {check}profile {duration(found.profile)}, final "
        f"latencies {duration(found.latency)}"
    )
    print(f"one trial, roughly: {duration(found.trial)}")
    if ready.settings.evaluation.latency_compile:
        print("these are times of compiled blocks: trials are not compiled and take longer")
    budget = ready.settings.search.budget
    for limit, needed, unit in (
        (budget.wall_clock, found.wall, "s"),
        (budget.device_hours, found.device / 3600, "device-hours"),
    ):
        if limit is not None:
            fits = (
                "it should do" if needed <= limit else "it ends the trials early (exit code 124)"
            )
            print(f"budget: {limit:g} {unit}, needed roughly {needed:.3g} {unit}; {fits}")
