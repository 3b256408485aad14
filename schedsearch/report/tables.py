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


_STYLES = {"better": "bold green", "no difference": "yellow", "worse": "bold red"}


def front_table(found: RunFindings, max_searched: int | None = None) -> Table:
    """The front with full depth, the presets and their opponents, by latency.

    Args:
        found: What was found in the run.
        max_searched: Searched schedules to show at most: the confirmed ones first, then evenly
            spread; None shows all.
    """
    shown = _shortened(found.shown, max_searched)
    table = _table(f"Pareto front of {found.results.settings.name} and its baselines")
    table.caption = "\n".join(_legend(found, left_out=len(found.shown) - len(shown)))
    table.add_column("schedule", no_wrap=True)
    table.add_column("blocks, data → noise")  # alone wraps where there are many intervals
    for title in _number_titles(found):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("front", no_wrap=True)
    front = {entry.trial for entry in found.front}
    for entry in shown:
        numbers = [
            rounded(entry.fid),
            *([_held_out(entry)] if found.held_out_title else []),
            _latency(entry),
            f"{entry.latency.acceleration:.1%}",
        ]
        on_front = entry.trial in front
        table.add_row(
            entry.title,
            " ".join(map(str, entry.depths)),
            *numbers,
            _front(found, entry, on_front=on_front),
            style="bold" if on_front and entry.name is None else None,
        )
    return table


def preset_table(found: RunFindings) -> Table:
    """Every preset against the best searched schedule that is no slower."""
    table = _table("Against the hand-made schedules, at no higher latency")
    auditor = found.results.settings.evaluation.auditor
    table.caption = "FID difference: searched - preset, 95 % interval"
    if auditor is not None:
        table.caption += f"; auditor: {auditor}"
    table.add_column("preset", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("searched", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("FID difference", justify="right", no_wrap=True)
    table.add_column("verdict")
    if auditor is not None:
        table.add_column("auditor says")
    table.add_column("")
    for comparison in found.comparisons:
        table.add_row(*_preset_row(comparison, audited=auditor is not None))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )


def _number_titles(found: RunFindings) -> list[str]:
    return ["FID", *(["held-out FID"] if found.held_out_title else []), "ms", "saved"]


def _legend(found: RunFindings, *, left_out: int) -> list[str]:
    """What the columns hold, a line each."""
    batch = found.results.settings.evaluation.latency_batch
    predicted = any(entry.latency.source != "measured" for entry in found.shown)
    lines = [f"{found.shown[0].fid_title}; ms per batch of {batch}"]
    if predicted:
        lines.append("~: not measured after the last trial")
    if found.held_out_title:
        lines += [
            f"held-out FID: {found.held_out_title}, 95 % interval",
            "front: ● in the search, then at how many of the held-out seeds",
        ]
    if left_out:
        lines.append(f"{left_out} more: schedsearch front")
    return lines


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
    if comparison.is_faster:
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
    """A dot by the search's FID, then the held-out seeds on the front."""
    text = "● " if on_front else "  "
    if (seeds := found.seeds_on_front.get(entry.trial)) is None:
        return text
    return f"{text}{seeds[0]}/{seeds[1]}"
