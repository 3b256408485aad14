"""``schedsearch status``, ``front`` and ``pick``: read a run, change nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from schedsearch.cli.arguments import (
    add_format,
    add_methods,
    add_pick_rules,
    add_run,
    print_json,
)
from schedsearch.formatting import for_shell

if TYPE_CHECKING:
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.results import RunResults


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``status``."""
    add_run(parser)
    add_format(parser, "text", "json")


def open_run(name: str) -> tuple[RunFolder, RunResults]:
    """The folder and the results of a run, by path or by name below ``runs/``."""
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.results import RunResults

    folder = RunFolder.existing(name)
    return folder, RunResults.load(folder)


def show_status(args: argparse.Namespace) -> int:
    """Print how far a run is."""
    from schedsearch.runs.costs import Costs, used_budget
    from schedsearch.search.study.running import running_trials

    folder, results = open_run(args.run)
    done = len({record.depths for record in results.records if record.complete})
    failed = results.num_failed
    live = folder.has_live_driver()
    open_trials = running_trials(folder, results.settings)
    costs, budget = Costs.load(folder), results.settings.search.budget
    used = used_budget(costs, budget.wall_clock, budget.device_hours)
    volume = results.hypervolume()
    wanted = results.settings.search.n_trials
    if args.format == "json":
        print_json(
            {
                "name": results.settings.name,
                "run": folder.shown,
                "driver_at_work": live,
                "done": done,
                "n_trials": wanted,
                "failed": failed,
                "running": open_trials if live else [],
                "interrupted": [] if live else open_trials,
                "wall_seconds": costs.wall_seconds,
                "device_seconds": costs.device_seconds,
                "front": len(results.front()),
                "hypervolume": volume,
            }
        )
        return 0
    print(f"run:          {results.settings.name} ({folder.shown})")
    print(f"driver:       {'at work' if live else 'not running'}")
    print(f"done:         {done} of {wanted}")
    print(f"failed:       {failed}")
    numbers = f" (trials {', '.join(map(str, open_trials))})" if open_trials else ""
    print(f"running:      {len(open_trials) if live else 0}{numbers if live else ''}")
    if open_trials and not live:
        print(f"interrupted:  {len(open_trials)}{numbers}; `schedsearch run` runs them again")
    if results.start is not None:
        print(f"start:        {results.start.sentence}")
    print(f"budget used:  {used}")
    for line in costs.lines():
        print(f"  {line}")
    print(f"front:        {len(results.front())} schedules")
    print(f"hypervolume:  {'-' if volume is None else f'{volume:.4f}'}")
    return 0


def add_front_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``front``."""
    add_run(parser)
    add_methods(parser)
    add_format(parser, "table", "json", "yaml", "csv")


def show_front(args: argparse.Namespace) -> int:
    """Print the Pareto front of a run."""
    from schedsearch.runs import front_files

    folder, results = open_run(args.run)
    if args.methods == "all":
        _show_all_methods(folder, args.format)
        return 0
    front = results.require_front()
    if args.format == "table":
        from schedsearch.report.console import result_console
        from schedsearch.report.final import print_report
        from schedsearch.runs.costs import Costs
        from schedsearch.runs.methods.results import MethodResults

        print_report(
            result_console(),
            results,
            folder.shown,
            costs=Costs.load(folder),
            methods=MethodResults.load(folder),
            whole_front=True,
        )
        return 0
    print(front_files.front_as(args.format, front), end="")
    return 0


def _show_all_methods(folder: RunFolder, form: str) -> None:
    """Print the front of all methods."""
    from schedsearch.report.console import result_console
    from schedsearch.report.method_tables import left_out_lines, methods_table
    from schedsearch.runs import front_files
    from schedsearch.runs.methods.entry import method_row
    from schedsearch.runs.methods.results import MethodResults

    results = MethodResults.load(folder)
    front = results.require_front()
    if form == "table":
        console = result_console()
        console.print(methods_table(results, front))
        for line in left_out_lines(results):
            console.print(line, soft_wrap=True, highlight=False)
        return
    rows = [method_row(entry, results.full()) for entry in front]
    print(front_files.rows_as(form, rows), end="")


def add_pick_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``pick``."""
    add_run(parser)
    add_methods(parser)
    add_format(parser, "text", "json")
    add_pick_rules(parser)


def show_pick(args: argparse.Namespace) -> int:
    """Print one trial or method off the front, and why it was chosen."""
    from schedsearch.runs.front_files import front_row
    from schedsearch.runs.methods.entry import method_row
    from schedsearch.runs.methods.results import MethodResults
    from schedsearch.runs.pick import pick

    folder, results = open_run(args.run)
    rules = {
        "knee": args.knee,
        "max_latency_ms": args.max_latency_ms,
        "max_fid": args.max_fid,
        "max_fid_increase": args.max_fid_increase,
    }
    if args.methods == "all":
        methods = MethodResults.load(folder)
        method, why = pick(methods.require_front(), methods.full(), **rules)
        row, entry = method_row(method, methods.full()), method.trial
    else:
        entry, why = pick(results.require_front(), results.full(), **rules)
        row = front_row(entry)
    if args.format == "json":
        print_json({**row, "why": why})
    elif entry is None:
        _print_method(folder, method, why)
    else:
        _print_trial(folder, entry, why)
    return 0


def _print_method(folder: RunFolder, method: MethodEntry, why: str) -> None:
    from schedsearch.methods.method_file import read_method_file
    from schedsearch.runs.checks.identity import place_in
    from schedsearch.runs.folder import METHOD_FILE

    record, name = method.first, method.name
    print(f"method:       {name} ({method.method})")
    print(f"FID:          {method.fid:.4f} ({record.features}, n={record.num_samples})")
    print(f"latency:      {method.latency_ms:.2f} ms per batch, {record.share:.0%} of blocks")
    print(f"why:          {why}")
    path = folder.method(name) / METHOD_FILE
    weighty = path.is_file() and read_method_file(path, place_in(folder, path)).weights is not None
    weights = " --weights method.safetensors" if weighty else ""
    print(f"export:       {_export(folder)} --method {for_shell(name)} -o method.yaml{weights}")


def _print_trial(folder: RunFolder, entry: FrontEntry, why: str) -> None:
    from schedsearch.runs.folder import METHOD_FILE
    from schedsearch.schedules.edges import in_words

    print(f"trial {entry.trial}" + (f" ({entry.name})" if entry.name else ""))
    print(f"depths:       {' '.join(map(str, entry.depths))}")
    if (edges := entry.schedule.edges) is not None:
        print(f"edges:        {in_words(edges)}")
    print(f"FID:          {entry.fid:.4f} {entry.fid_title.removeprefix('FID ')}")
    print(
        f"latency:      {entry.latency.ms:.2f} ms per batch ({entry.latency.source}), "
        f"{entry.latency.acceleration:.1%} saved"
    )
    print(f"why:          {why}")
    adapted = (folder.trial(entry.trial) / METHOD_FILE).is_file()
    files = "method.yaml --weights method.safetensors" if adapted else "schedule.yaml"
    print(f"export:       {_export(folder)} --trial {entry.trial} -o {files}")


def _export(folder: RunFolder) -> str:
    return f"schedsearch export {for_shell(folder.shown)}"
