"""The last thing that ``run`` and ``front`` print: headline, two tables, a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.report.conclusions import conclusions, headline
from schedsearch.report.findings import findings_of
from schedsearch.report.plan_lines import added_by_training, plan_lines
from schedsearch.report.tables import WIDTH, front_table, preset_table

if TYPE_CHECKING:
    from rich.console import Console

    from schedsearch.runs.costs import Costs
    from schedsearch.runs.methods.results import MethodResults
    from schedsearch.runs.results import RunResults

SCREEN_ROWS = 12
"""Searched schedules in the table of ``run``, which with all else fits a screen."""


def print_report(
    console: Console,
    results: RunResults,
    run_dir: str,
    *,
    costs: Costs | None = None,
    methods: MethodResults | None = None,
    whole_front: bool = False,
) -> None:
    """Print what a run found; nothing for a run without results.

    Args:
        console: Where to.
        results: The run.
        run_dir: The run folder as people type it.
        costs: Where the time went.
        methods: Plans and other methods of the same folder.
        whole_front: Show every schedule of the front, however many there are.
    """
    if not results.entries:
        return
    found = findings_of(results)
    if (line := headline(found)) is not None:
        console.print(line, soft_wrap=True, highlight=False)
    width = min(console.width, WIDTH)
    console.print(front_table(found, None if whole_front else SCREEN_ROWS), width=width)
    if found.comparisons:
        console.print()
        console.print(preset_table(found), width=width)
    console.print()
    *sentences, command = conclusions(found, run_dir, costs)
    if methods is not None:
        added = added_by_training(methods)
        sentences = [*plan_lines(methods), *([added] if added else []), *sentences]
    for line in sentences:
        console.print(line, width=width, highlight=False)
    console.print(command, soft_wrap=True, highlight=False)  # to be copied in one piece
