"""The picture of a run: its front, and the schedules on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.files.atomic import replacing
from schedsearch.planning.surrogate import Surrogate, surrogate_front
from schedsearch.schedules.edges import in_words
from schedsearch.schedules.hand_made import FULL

if TYPE_CHECKING:
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.results import RunResults

_SEARCHED, _PRESET, _FULL, _BOUND = "#1f77b4", "#d62728", "#222222", "#2ca02c"
_PLAN, _STEPS = "#ff7f0e", "#9467bd"

LOG_ABOVE = 4.0
"""Ratio of the largest to the smallest FID above which the axis is logarithmic."""

MIN_TRIALS = 8
"""Trials below which no surrogate is drawn."""


def plot_front(
    results: RunResults,
    path: Path,
    table: ErrorTable | None = None,
    plans: Sequence[MethodEntry] = (),
) -> None:
    """Draw the front with full depth and the presets marked, and the schedules on it.

    Filled marks stand at the FID of the search. Hollow ones with a bar are means over held-out
    seeds with their 95 % interval, where these have as many images.

    Args:
        results: The run.
        path: Where the PNG goes; replaced at once.
        table: The error table, for the dashed line of what the surrogate calls optimal.
        plans: Plans and fewer steps of the same run, which need no training.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_points(left, results)
    _draw_optima(left, results, table)
    _draw_plans(left, plans)
    left.legend(fontsize=8)
    _draw_schedules(right, results)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def optima_of(results: RunResults, table: ErrorTable | None) -> list[tuple[float, float]]:
    """(FID, latency in ms) of the schedules that the surrogate calls optimal.

    The surrogate is fitted to all trials; FIDs are those that it expects. Empty with too few
    trials, or where no latency table was kept.
    """
    space, report = results.settings.space.build(), results.latency
    known = [e for e in results.entries if e.schedule in space and e.fid > 0]
    if len(known) < MIN_TRIALS or report is None or not report.visits:
        return []
    schedules = [entry.schedule for entry in known]
    surrogate = Surrogate.fit(space, report.visits, schedules, [e.fid for e in known], table)
    return [
        (fid, results.drift * (report.predicted_ms(schedule.depths) or math.nan))
        for schedule, fid in surrogate_front(surrogate, report.visits)
    ]


def _draw_points(axes: Any, results: RunResults) -> None:
    settings = results.settings.evaluation
    alike = settings.confirm_samples in (None, settings.num_samples)
    for entry in results.entries:
        _draw_entry(axes, entry, drift=results.drift, held_out=alike)
    # Name the baselines.
    named = sorted((e for e in results.entries if e.name), key=lambda e: e.latency_ms)
    for i, entry in enumerate(named):
        axes.annotate(
            entry.title,
            (entry.latency_ms, entry.fid),
            textcoords="offset points",
            xytext=(6, 5 if i % 2 else 16),  # presets lie close together
            fontsize=8,
        )
    # Draw the front.
    front = results.front()
    axes.step(
        [entry.latency_ms for entry in front],
        [entry.fid for entry in front],
        where="post",
        color=_SEARCHED,
        linewidth=1.4,
        label="Pareto front",
        zorder=2,
    )
    _label_marks(axes, held_out=alike and bool(results.confirmations))
    axes.set_xlabel(f"latency, ms per batch of {settings.latency_batch}")
    axes.set_ylabel(results.entries[0].fid_title)
    fids = [entry.fid for entry in results.entries]
    if min(fids) > 0 and max(fids) > LOG_ABOVE * min(fids):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_title(results.settings.name)
    axes.margins(x=0.12, y=0.1)  # room for the names
    axes.grid(alpha=0.25)


def _draw_entry(axes: Any, entry: FrontEntry, *, drift: float, held_out: bool) -> None:
    is_full, searched = entry.name == FULL, entry.name is None
    colour = _SEARCHED if searched else _FULL if is_full else _PRESET
    mark = "*" if is_full else "o" if searched else "D"
    measured = entry.latency.source == "measured"
    latency = entry.latency_ms if measured else drift * entry.latency.predicted_ms
    size, order = 11 if is_full else 5.5, 3 if searched else 4
    axes.plot(latency, entry.fid, mark, markersize=size, color=colour, alpha=0.8, zorder=order)
    if held_out and (fresh := entry.held_out_fid) is not None:
        axes.errorbar(
            latency,
            fresh.mean,
            yerr=fresh.half_width,
            fmt=mark,
            markersize=size,
            markerfacecolor="none",
            color=colour,
            alpha=0.6,
            elinewidth=1.0,
            capsize=2,
            zorder=order,
        )


def _label_marks(axes: Any, *, held_out: bool) -> None:
    axes.plot([], [], "o", color=_SEARCHED, label="searched")
    axes.plot([], [], "D", color=_PRESET, label="hand-made")
    axes.plot([], [], "*", markersize=11, color=_FULL, label="full depth")
    if held_out:
        label = "mean over held-out seeds, 95 %"
        axes.plot([], [], "o", color=_SEARCHED, markerfacecolor="none", label=label)


def _draw_optima(axes: Any, results: RunResults, table: ErrorTable | None) -> None:
    # NOTE: a line far above everything measured would only flatten the picture.
    highest = max(entry.fid for entry in results.entries)
    line = sorted((p for p in optima_of(results, table) if p[0] <= highest), key=lambda p: p[1])
    if line:
        axes.plot(
            [latency for _, latency in line],
            [fid for fid, _ in line],
            color=_BOUND,
            linewidth=0.8,
            linestyle="--",
            label="optimal by the surrogate",
            zorder=1,
        )


def _draw_plans(axes: Any, plans: Sequence[MethodEntry]) -> None:
    """Methods without training, at the search's seed; kinds joined by lines."""
    for kind, colour, label in (("plan", _PLAN, "plan"), ("steps", _STEPS, "fewer steps")):
        points = [(e.latency_ms, e.fid) for e in plans if e.method == kind]
        if points:
            ms, fids = zip(*points, strict=True)
            axes.plot(
                ms, fids, "s-", markersize=5, color=colour, linewidth=0.8, alpha=0.9,
                label=f"{label}, no training", zorder=3,
            )  # fmt: skip


def _draw_schedules(axes: Any, results: RunResults) -> None:
    """The front as a heat map: one row per schedule, fastest on top."""
    front = results.front()
    settings = results.settings.space
    image = axes.imshow(
        [entry.depths for entry in front],
        aspect="auto",
        cmap="viridis",
        vmin=settings.min_depth,
        vmax=settings.max_depth,
    )
    for row, entry in enumerate(front):
        for column, depth in enumerate(entry.depths):
            dark = depth < (settings.min_depth + settings.max_depth) / 2
            colour = "white" if dark else "black"
            axes.text(column, row, str(depth), ha="center", va="center", fontsize=7, color=colour)
    axes.set_yticks(range(len(front)))
    axes.set_yticklabels([f"{e.title}, {_saved(e)}" for e in front], fontsize=7)
    axes.set_xticks(range(settings.num_intervals))
    edges = settings.build().edges
    note = "" if edges is None else f"\nedges {in_words(edges)}"
    axes.set_xlabel(f"interval of diffusion time, data → noise{note}")
    axes.set_title("blocks run on the front")
    axes.figure.colorbar(image, ax=axes, label="blocks")


def _saved(entry: FrontEntry) -> str:
    """Time against full depth: ``-31%``, and ``0%`` rather than ``-0%``."""
    percent = round(100 * entry.latency.acceleration)
    return f"{-percent:+d}%" if percent else "0%"
