"""Tables for the terminal: the front beside its baselines, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from schedsearch.search.comparison import Comparison
    from schedsearch.search.results import FrontEntry, RunResults

_VERDICT_STYLE = {"better": "bold green", "no difference": "yellow", "worse": "bold red"}


def fid_name(entries: Sequence[FrontEntry]) -> str:
    """Heading of an FID column: extractor and sample count belong to the number."""
    if not entries:
        return "FID"
    return f"FID ({entries[0].features}, n={entries[0].num_samples})"


def front_table(results: RunResults) -> Table:
    """The front with full depth and the presets among it, by latency."""
    front = {entry.trial for entry in results.front()}
    baselines = {e.trial for e in results.entries if e.name is not None}
    shown = sorted(
        (e for e in results.entries if e.trial in front | baselines),
        key=lambda entry: entry.latency_ms,
    )
    table = Table(title=f"Pareto front of {results.settings.name} and its baselines")
    table.add_column("trial", justify="right")
    table.add_column("schedule")
    table.add_column("blocks, data → noise")
    table.add_column(fid_name(shown), justify="right")
    table.add_column(_fresh_name(shown), justify="right")
    table.add_column("1000 KID", justify="right")
    table.add_column("ms / batch", justify="right")
    table.add_column("saved", justify="right")
    table.add_column("front", justify="center")
    for entry in shown:
        on_front = entry.trial in front
        table.add_row(
            str(entry.trial),
            entry.name or "searched",
            " ".join(map(str, entry.depths)),
            f"{entry.fid:.3f}",
            _interval(entry),
            f"{1000 * entry.kid:.2f}",
            _latency(entry),
            f"{entry.acceleration:.1%}",
            "●" if on_front else "",
            style="bold" if on_front and entry.name is None else None,
        )
    return table


def _fresh_name(entries: Sequence[FrontEntry]) -> str:
    """Heading of the confirmed FIDs, with their own sample count."""
    samples = max((entry.confirm_samples for entry in entries), default=0)
    return f"fresh seeds (n={samples}), 95 %" if samples else "fresh seeds, 95 %"


def _interval(entry: FrontEntry) -> str:
    if entry.fid_confirmed is None or entry.fid_ci95 is None:
        return ""
    return f"{entry.fid_confirmed:.3f} ± {(entry.fid_ci95[1] - entry.fid_ci95[0]) / 2:.3f}"


def _latency(entry: FrontEntry) -> str:
    if entry.latency_spread_ms is None:
        return f"~{entry.latency_ms:.1f}"  # predicted
    return f"{entry.latency_ms:.1f} ± {entry.latency_spread_ms:.1f}"


def comparison_table(results: RunResults) -> Table:
    """Every preset against the best searched schedule that is no slower."""
    entries = {entry.trial: entry for entry in results.entries}
    compared = {c.preset: c for c in results.comparisons()}
    table = Table(title="Against the hand-made schedules, at measured latency no higher")
    table.add_column("preset")
    table.add_column("ms", justify="right")
    table.add_column("best searched schedule")
    table.add_column("ms", justify="right")
    table.add_column("FID difference, 95 %", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("verdict")
    for preset in results.hand_made():
        comparison = compared.get(preset.trial)
        rival = results.rival_of(preset)
        if rival is None:
            table.add_row(preset.title, f"{preset.latency_ms:.1f}", "none is as fast")
        elif comparison is None:
            _add(table, preset, rival, "not confirmed", "", Text(""))
        else:
            _add(
                table,
                preset,
                entries[comparison.rival],
                f"{comparison.difference:+.3f} ± {comparison.half_width:.3f}",
                str(comparison.num_seeds),
                Text(comparison.verdict, style=_VERDICT_STYLE[comparison.verdict]),
            )
    return table


def _add(
    table: Table, preset: FrontEntry, rival: FrontEntry, difference: str, seeds: str, verdict: Text
) -> None:
    table.add_row(
        preset.title,
        f"{preset.latency_ms:.1f}",
        f"trial {rival.trial}: {' '.join(map(str, rival.depths))}",
        f"{rival.latency_ms:.1f}",
        difference,
        seeds,
        verdict,
    )


def conclusions(results: RunResults, run_dir: str) -> list[str]:
    """What the run found, how sure that is, and what to do next: plain sentences."""
    lines = []
    total, presets = results.hypervolume(), results.hypervolume(_baselines(results))
    if total is not None and presets is not None:
        lines.append(
            f"Hypervolume {total:.4f}, of the hand-made schedules and full depth alone "
            f"{presets:.4f} (box: 3 x FID, 1.01 x latency of full depth)."
        )
    comparisons = results.comparisons()
    if comparisons:
        lines.append(_how_sure(results, comparisons))
    if front := results.front():
        # The best searched schedule; where the hand-made ones won, the best of all.
        best = next((entry for entry in reversed(front) if entry.name is None), front[-1])
        lines.append(
            f"Next: schedsearch dashboard {run_dir}   ·   schedsearch pick {run_dir} --knee   ·   "
            f"schedsearch export {run_dir} --trial {best.trial} -o schedule.yaml"
        )
    return lines


def _baselines(results: RunResults) -> list[FrontEntry]:
    return [entry for entry in results.entries if entry.name is not None]


def _how_sure(results: RunResults, comparisons: Sequence[Comparison]) -> str:
    names = {entry.trial: entry.title for entry in results.entries}
    groups: dict[str, list[str]] = {"better": [], "no difference": [], "worse": []}
    for comparison in comparisons:
        groups[comparison.verdict].append(names[comparison.preset])
    parts = []
    if groups["better"]:
        parts.append(f"significantly better than {', '.join(groups['better'])}")
    if groups["no difference"]:
        parts.append(f"not significantly different from {', '.join(groups['no difference'])}")
    if groups["worse"]:
        parts.append(f"significantly worse than {', '.join(groups['worse'])}")
    seeds = min(comparison.num_seeds for comparison in comparisons)
    widest = max(comparison.half_width for comparison in comparisons)
    return (
        f"How sure: the best searched schedule at each preset's latency is "
        f"{'; '.join(parts)} (paired 95 % intervals over {seeds} fresh evaluation seeds with the "
        f"same noise, half-width up to {widest:.3f}). Each schedule was fine-tuned once: another "
        "training seed may shift this."
    )
