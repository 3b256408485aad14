"""The last thing that ``run`` and ``front`` print: tables, verdicts and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from schedsearch.report.conclusions import conclusions
from schedsearch.report.findings import findings_of
from schedsearch.report.tables import comparison_table, front_table

if TYPE_CHECKING:
    from rich.console import Console

    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.runs.results import RunResults

SCREEN_ROWS = 10
"""Searched schedules in the table of ``run``, which with all else fits a screen."""

WIDE = 120
"""Columns of a window from which the front's table shows every interval."""


def print_report(
    console: Console,
    results: RunResults,
    run_dir: str,
    *,
    error_table: ErrorTable | None = None,
    certificate: str | None = None,
    stage_seconds: Mapping[str, float] | None = None,
    whole_front: bool = False,
) -> None:
    """Print what a run found and how sure that is; nothing for a run without results.

    Args:
        console: Where to.
        results: The run.
        run_dir: The run folder as people type it.
        error_table: Of the profile stage, to be checked against the FIDs.
        certificate: How much better the surrogate thinks that a schedule could be.
        stage_seconds: Busy seconds by stage.
        whole_front: Show every schedule of the front, however many there are, and KID.
    """
    if not results.entries:
        return
    found = findings_of(results, error_table)
    most = None if whole_front else SCREEN_ROWS
    narrow = console.width < WIDE
    console.print(front_table(found, most, kid=whole_front, narrow=narrow))
    if found.presets:
        console.print(comparison_table(found))
    for line in conclusions(found, run_dir, certificate=certificate, stage_seconds=stage_seconds):
        console.print(line, soft_wrap=True, highlight=False)
