"""Tables for the terminal: the front beside its baselines, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from schedsearch.report.findings import fid_name, findings_of
from schedsearch.formatting import plus_minus, rounded
from schedsearch.statistics.findings import PresetFinding, RunFindings, ScheduleFinding

if TYPE_CHECKING:
    from schedsearch.runs.results import RunResults

__all__ = ["comparison_table", "fid_name", "front_table"]

_VERDICT_STYLE = {"better": "bold green", "no difference": "yellow", "worse": "bold red"}


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    cell: Callable[[ScheduleFinding], str]
    no_wrap: bool = True
    justify: JustifyMethod = "right"


def front_table(
    run: RunResults | RunFindings,
    max_searched: int | None = None,
    *,
    kid: bool = True,
    narrow: bool = False,
) -> Table:
    """The front with full depth and the presets among it, by latency.

    Args:
        run: The run, or what was found in it.
        max_searched: Searched schedules to show at most: the confirmed ones first, then evenly
            spread; None shows all.
        kid: Show KID beside FID.
        narrow: Leave out what fits no window of 80 columns.
    """
    found = _findings(run)
    shown = _shortened(found.schedules, max_searched)
    left_out = len(found.schedules) - len(shown)
    notes = [found.fid_name]  # in one piece: its column breaks the name
    if any(schedule.fresh is None and schedule.expected is not None for schedule in shown):
        notes.append("in brackets: not confirmed, what fresh seeds should show")
    if left_out:
        notes.append(f"{left_out} more on the front: schedsearch front")
    table = Table(
        title=f"Pareto front of {found.name} and its baselines",
        caption="; ".join(notes) or None,
        caption_justify="left",
    )
    columns = _narrow_columns(found) if narrow else _columns(found, kid=kid)
    for column in columns:
        table.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    for schedule in shown:
        bold = schedule.on_front and schedule.name is None
        cells = [column.cell(schedule) for column in columns]
        table.add_row(*cells, style="bold" if bold else None)
    return table


def _columns(found: RunFindings, *, kid: bool) -> list[_Column]:
    columns = [
        _Column("trial", lambda s: str(s.trial)),
        _Column("schedule", _origin, justify="left"),
        _Column("blocks, data → noise", _depths, justify="left"),
        _Column(found.fid_name, lambda s: rounded(s.fid), no_wrap=False),
        _Column(_fresh_header(found), _fresh, no_wrap=False),
    ]
    if found.audit_name is not None:
        columns.append(_Column(f"FID by auditor {found.audit_name}", _audited, no_wrap=False))
    if kid:
        columns.append(_Column("1000 KID", _kid, no_wrap=False))
    return [
        *columns,
        _Column("to full depth", _to_full, no_wrap=False),
        _Column("ms / batch", _latency, no_wrap=False),
        _Column("saved", _saved, no_wrap=False),
        _Column("on the front", _front, no_wrap=False, justify="left"),
    ]


def _narrow_columns(found: RunFindings) -> list[_Column]:
    return [
        _Column("schedule", lambda s: s.title, justify="left"),
        _Column("blocks, data → noise", _depths, no_wrap=False, justify="left"),
        _Column(found.fid_name, lambda s: rounded(s.fid), no_wrap=False),
        _Column(_fresh_header(found), _fresh, no_wrap=False),
        _Column("ms", lambda s: f"{s.latency_ms:.1f}"),
        _Column("saved", lambda s: f"{s.saved:.0%}"),
        _Column("front", _front, no_wrap=False, justify="left"),
    ]


def comparison_table(run: RunResults | RunFindings) -> Table:
    """Every preset against the best searched schedule that is no slower."""
    found = _findings(run)
    table = Table(title="Against the hand-made schedules, at measured latency no higher")
    table.add_column("preset")
    table.add_column("ms", justify="right")
    table.add_column("best searched schedule")
    table.add_column("ms", justify="right")
    table.add_column("FID difference, 95 %", justify="right")
    table.add_column("how sure")
    if found.audit_name is not None:
        table.add_column(f"by auditor {found.audit_name}")
    for preset in found.presets:
        table.add_row(*_preset_row(preset, audited=found.audit_name is not None))
    return table


def _findings(run: RunResults | RunFindings) -> RunFindings:
    return run if isinstance(run, RunFindings) else findings_of(run)


def _shortened(
    schedules: tuple[ScheduleFinding, ...], max_searched: int | None
) -> list[ScheduleFinding]:
    searched = [s for s in schedules if s.name is None]
    if max_searched is None or len(searched) <= max_searched:
        return list(schedules)
    kept = [s for s in searched if s.fresh is not None][:max_searched]
    others = [s for s in searched if s.fresh is None]
    room = max_searched - len(kept)
    kept += [others[len(others) * i // room] for i in range(min(room, len(others)))]
    trials = {s.trial for s in kept}
    return [s for s in schedules if s.name is not None or s.trial in trials]


def _preset_row(found: PresetFinding, *, audited: bool) -> list[str | Text]:
    preset, rival, comparison = found.preset, found.rival, found.comparison
    row: list[str | Text] = [preset.title, f"{preset.latency_ms:.1f}"]
    if rival is None:
        return [*row, "none is as fast"]
    row += [
        f"trial {rival.trial}: {' '.join(map(str, rival.depths))}",
        f"{rival.latency_ms:.1f}",
    ]
    if comparison is None:
        return [*row, "not confirmed"]
    row += [
        plus_minus(comparison.difference, comparison.half_width, sign=True),
        Text(comparison.sentence, style=_VERDICT_STYLE[comparison.verdict]),
    ]
    if audited and (audit := found.audit) is not None:
        words = f"{audit.verdict} ({plus_minus(audit.difference, audit.half_width, sign=True)})"
        row.append(Text(words, style=_VERDICT_STYLE[audit.verdict]))
    return row


def _origin(schedule: ScheduleFinding) -> str:
    return schedule.name or ("error table" if schedule.origin == "dp" else "searched")


def _depths(schedule: ScheduleFinding) -> str:
    return " ".join(map(str, schedule.depths))


def _fresh_header(found: RunFindings) -> str:
    protocol = found.fresh_fid_name.partition(", ")[2]
    return f"fresh seeds ({protocol}, 95 %" if protocol else "fresh seeds, 95 %"


def _audited(schedule: ScheduleFinding) -> str:
    return "" if schedule.audited is None else rounded(schedule.audited)


def _fresh(schedule: ScheduleFinding) -> str:
    """Confirmed, or in brackets what confirmation would show."""
    if schedule.fresh is not None:
        return plus_minus(*schedule.fresh)
    if schedule.expected is not None:
        return f"({plus_minus(*schedule.expected)})"
    return ""


def _kid(schedule: ScheduleFinding) -> str:
    if schedule.fresh_kid is None:
        return rounded(1000 * schedule.kid, most=2)
    mean, half = schedule.fresh_kid
    return plus_minus(1000 * mean, 1000 * half, most=2)


def _to_full(schedule: ScheduleFinding) -> str:
    if (to_full := schedule.to_full) is None:
        return ""
    return plus_minus(to_full.mean, to_full.half_width, sign=True)


def _latency(schedule: ScheduleFinding) -> str:
    if schedule.latency_half_width is None:
        return f"~{schedule.latency_ms:.1f}"  # predicted
    return f"{schedule.latency_ms:.1f} ± {schedule.latency_half_width:.1f}"


def _saved(schedule: ScheduleFinding) -> str:
    if not schedule.saved_half_width:  # predicted, or full depth itself
        return f"{schedule.saved:.1%}"
    return f"{100 * schedule.saved:.1f} ± {100 * schedule.saved_half_width:.1f}%"


def _front(schedule: ScheduleFinding) -> str:
    """A dot by the search's FID, and how probable that is; with who beats it, where likely."""
    text = "● " if schedule.on_front else "  "
    if (membership := schedule.membership) is None:
        return text
    text += f"{membership.probability:.0%}"
    if membership.dominated_by is not None and membership.dominated_probability > 0.5:
        text += f" (by {membership.dominated_by})"
    return text
