"""Tables for the terminal: the front beside its baselines, and the presets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from schedsearch.formatting import plus_minus, rounded

if TYPE_CHECKING:
    from schedsearch.report.findings import RunFindings
    from schedsearch.runs.comparison import Comparison
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.statistics.paired import PairedDifference

WIDTH = 100
"""Columns that both tables fit into."""

NOTED_ABOVE = 0.03
"""Share of latency by which an opponent is faster before its line says so."""

_STYLES = {"better": "bold green", "no difference": "yellow", "worse": "bold red"}


def front_table(found: RunFindings, max_searched: int | None = None) -> Table:
    """The front with full depth, the presets and their opponents, by latency.

    Args:
        found: What was found in the run.
        max_searched: Searched schedules to show at most: the confirmed ones first, then evenly
            spread; None shows all.
    """
    shown = _shortened(found.shown, max_searched)
    title = f"Pareto front of {found.results.settings.name} and its baselines"
    table = _table(title)
    if left_out := len(found.shown) - len(shown):
        table.caption = f"{left_out} more: schedsearch front"
        table.caption_justify = "left"
    batch = found.results.settings.evaluation.latency_batch
    table.add_column("schedule", no_wrap=True)
    table.add_column("blocks, data → noise", no_wrap=True)
    table.add_column(found.shown[0].fid_title, justify="right", max_width=12)
    table.add_column(found.held_out_title or "held-out seeds", justify="right", max_width=16)
    table.add_column(f"ms per batch of {batch}", justify="right", max_width=12)
    table.add_column("saved", justify="right", no_wrap=True)
    table.add_column("front", no_wrap=True)
    front = {entry.trial for entry in found.front}
    for entry in shown:
        bold = entry.trial in front and entry.name is None
        table.add_row(
            entry.title,
            " ".join(map(str, entry.depths)),
            rounded(entry.fid),
            _held_out(entry),
            _latency(entry),
            f"{entry.latency.acceleration:.1%}",
            _front(found, entry, on_front=entry.trial in front),
            style="bold" if bold else None,
        )
    return table


def preset_table(found: RunFindings) -> Table:
    """Every preset against the best searched schedule that is no slower."""
    table = _table("Against the hand-made schedules, at no higher latency")
    table.add_column("preset", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("searched", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("FID difference, 95 %", justify="right", no_wrap=True)
    table.add_column("searched is", no_wrap=True)
    auditor = found.results.settings.evaluation.auditor
    if auditor is not None:
        table.add_column(f"by auditor {auditor}", max_width=14)
    table.add_column("")
    for comparison in found.comparisons:
        table.add_row(*_preset_row(comparison, audited=auditor is not None))
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)


def _shortened(entries: tuple[FrontEntry, ...], max_searched: int | None) -> list[FrontEntry]:
    searched = [entry for entry in entries if entry.name is None]
    if max_searched is None or len(searched) <= max_searched:
        return list(entries)
    kept = [entry for entry in searched if entry.confirmed][:max_searched]
    others = [entry for entry in searched if not entry.confirmed]
    room = max_searched - len(kept)
    kept += [others[len(others) * i // room] for i in range(min(room, len(others)))]
    trials = {entry.trial for entry in kept}
    return [entry for entry in entries if entry.name is not None or entry.trial in trials]


def _preset_row(comparison: Comparison, *, audited: bool) -> list[str | Text]:
    preset, searched = comparison.preset, comparison.searched
    row: list[str | Text] = [preset.title, f"{preset.latency_ms:.1f}"]
    if searched is None:
        return [*row, "none is as fast"]
    row += [searched.title, f"{searched.latency_ms:.1f}"]
    difference = comparison.difference
    row.append("" if difference is None else _difference(difference))
    row.append(Text("not confirmed") if difference is None else _verdict(difference))
    if audited:
        row.append("" if comparison.audit is None else _verdict(comparison.audit))
    if comparison.time_saved > NOTED_ABOVE:
        row.append(f"{comparison.time_saved:.0%} faster")
    return row


def _difference(difference: PairedDifference) -> str:
    return plus_minus(difference.mean, difference.half_width, sign=True)


def _verdict(difference: PairedDifference) -> Text:
    words = "not sure" if difference.verdict == "no difference" else difference.verdict
    return Text(words, style=_STYLES[difference.verdict])


def _held_out(entry: FrontEntry) -> str:
    held_out = entry.held_out_fid
    return "" if held_out is None else plus_minus(held_out.mean, held_out.half_width)


def _latency(entry: FrontEntry) -> str:
    predicted = "" if entry.latency.source == "measured" else "~"
    return f"{predicted}{entry.latency_ms:.1f}"


def _front(found: RunFindings, entry: FrontEntry, *, on_front: bool) -> str:
    """A dot by the search's FID, then at how many held-out seeds it is on the front."""
    text = "● " if on_front else "  "
    if (seeds := found.seeds_on_front.get(entry.trial)) is None:
        return text
    return f"{text}{seeds[0]}/{seeds[1]}"
