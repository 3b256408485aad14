"""``schedsearch profile``: the tables of a space by themselves, before any trial."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from schedsearch.cli.arguments import add_space_and_output, space_and_output
from schedsearch.cli.signals import stopping_with
from schedsearch.formatting import for_shell

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.profile_space import Profile, ProfiledSchedule
    from schedsearch.settings import StudySettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``profile``."""
    add_space_and_output(parser, output_help="a search in the same folder takes the tables up")


def take_action(args: argparse.Namespace) -> int:
    """Measure the tables, or read those that are kept, and show them."""
    settings, folder = space_and_output(args)
    with stopping_with("The same command goes on from the saved progress."):
        return _profile(settings, folder, _search_command(args, folder), quiet=args.quiet)


def _search_command(args: argparse.Namespace, folder: RunFolder) -> str:
    """The search that takes up the tables."""
    overrides = "".join(f" -o {for_shell(override)}" for override in args.overrides)
    output = for_shell(folder.shown)
    return f"schedsearch run {for_shell(args.space)}{overrides} --output {output}"


def _profile(settings: StudySettings, folder: RunFolder, command: str, *, quiet: bool) -> int:
    from schedsearch.report.console import progress_console, result_console
    from schedsearch.report.live import RunView
    from schedsearch.report.profile_plots import (
        plot_block_values,
        plot_error_table,
        plot_latency_table,
    )
    from schedsearch.report.profile_tables import (
        closing_lines,
        error_table,
        latency_table,
        latency_verdict,
        plans_table,
    )
    from schedsearch.runs.results import hypervolume_of
    from schedsearch.search.profile_space import profile_space

    with RunView(progress_console(), hypervolume_of, quiet=quiet) as view:
        profile = profile_space(settings, folder, view)
    _write_json(profile, folder)
    plot_latency_table(profile, folder.profile / "latency_table.png")
    plot_error_table(profile, folder.profile / "error_table.png")
    plot_block_values(profile, folder.profile / "block_value.png")
    console = result_console()
    console.print(latency_table(profile.latency))
    console.print(error_table(profile))
    console.print(plans_table(profile))
    sentence, style = latency_verdict(profile)
    console.print(sentence, style=style, soft_wrap=True, highlight=False)
    names = ("latency_table.png", "error_table.png", "block_value.png", "profile.json")
    for line in closing_lines([f"{folder.shown}/profile/{name}" for name in names], command):
        console.print(line, soft_wrap=True, highlight=False)
    return 0


def _write_json(profile: Profile, folder: RunFolder) -> None:
    """Everything that is shown, for scripts: ``profile/profile.json``."""
    from dataclasses import asdict

    from schedsearch.files.atomic import write_text

    data = {
        "space": profile.settings.name,
        "latency_table": profile.latency.to_dict(),
        "prediction_deviation": profile.deviation,
        "error_table": asdict(profile.errors),
        "edges": profile.settings.space.build().edges,
        "calls_per_interval": list(profile.visits),
        "plans": [_plain(plan) for plan in profile.plans],
        "hand_made": [_plain(entry) for entry in profile.hand_made],
    }
    write_text(folder.profile / "profile.json", json.dumps(data, indent=1) + "\n")


def _plain(entry: ProfiledSchedule) -> dict[str, Any]:
    return {
        "name": entry.name,
        "depths": list(entry.schedule.depths),
        "blocks": entry.blocks,
        "excess_loss": entry.excess,
        "latency_ms": entry.measured_ms,
        "latency_half_width_ms": entry.half_width_ms,
        "predicted_latency_ms": entry.predicted_ms,
        "acceleration": entry.acceleration,
    }
