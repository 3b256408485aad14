"""Pictures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.files.atomic import replacing
from schedsearch.schedules.hand_made import FULL
from schedsearch.pareto import non_dominated
from schedsearch.report.findings import findings_of
from schedsearch.statistics.findings import RunFindings, ScheduleFinding

if TYPE_CHECKING:
    from schedsearch.runs.results import FrontEntry, RunResults

_SEARCHED, _PRESET, _FULL, _BOUND = "#1f77b4", "#d62728", "#222222", "#2ca02c"


@dataclass(frozen=True, slots=True)
class _Point:
    """A schedule in the picture."""

    schedule: ScheduleFinding
    fid: float
    half_width: float | None
    """None for a schedule that was not confirmed."""


def plot_front(
    results: RunResults, path: Path, bound: Sequence[tuple[float, float]] | None = None
) -> None:
    """Draw the front with full depth and the presets marked, and the schedules on it.

    Confirmed schedules stand at their FID over fresh seeds with its 95 % interval. The others
    are pale, at the FID that fresh seeds should show if enough were confirmed to tell; if not, at
    that of the search where both were measured alike, else nowhere. So is the surrogate's line.

    Args:
        results: The run.
        path: Where the PNG goes; replaced at once.
        bound: (FID, latency in ms) of the surrogate's exact optima, drawn as a thin line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_points(left, results, bound)
    _draw_schedules(right, results)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_points(  # type: ignore[no-untyped-def]
    axes, results: RunResults, bound: Sequence[tuple[float, float]] | None
) -> None:
    found = findings_of(results)
    name, points = _points(found)
    confirmed = [point for point in points if point.half_width is not None]
    judged = confirmed or points
    if any(p.schedule.latency_half_width is not None for p in judged):  # predictions may be off
        judged = [p for p in judged if p.schedule.latency_half_width is not None]
    front = [judged[i] for i in non_dominated([(p.fid, p.schedule.latency_ms) for p in judged])]
    for point in points:
        _draw_point(axes, point, pale=bool(confirmed) and point.half_width is None)
    named = [point for point in points if point.schedule.name is not None]
    for i, point in enumerate(sorted(named, key=lambda point: point.schedule.latency_ms)):
        axes.annotate(
            point.schedule.title,
            (point.schedule.latency_ms, point.fid),
            textcoords="offset points",
            xytext=(6, 5 if i % 2 else 16),  # presets lie close together
            fontsize=8,
        )
    axes.step(
        [p.schedule.latency_ms for p in front],
        [p.fid for p in front],
        where="post",
        color=_SEARCHED,
        linewidth=1.4,
        label="Pareto front, confirmed" if confirmed else "Pareto front",
        zorder=2,
    )
    if bound and (not confirmed or _comparable(found)):  # it learned the FID of the search
        # A bound far above everything measured would only flatten the picture.
        highest = max(p.schedule.fid for p in points)
        line = [point for point in sorted(bound, key=lambda p: p[1]) if point[0] <= highest]
        axes.plot(
            [latency for _, latency in line],
            [_at_fresh_seeds(found, fid) for fid, _ in line],
            color=_BOUND,
            linewidth=0.8,
            linestyle="--",
            label="best by the surrogate",
            zorder=1,
        )
    _add_legend(
        axes,
        searched=any(p.schedule.name is None for p in points),
        confirmed=bool(confirmed),
        pale=0 < len(confirmed) < len(points),
    )
    batch = results.settings.evaluation.latency_batch
    axes.set_xlabel(f"latency, ms per batch of {batch}")
    axes.set_ylabel(name)
    axes.set_title(found.name)
    axes.margins(x=0.12, y=0.1)  # room for the names
    axes.grid(alpha=0.25)


def _points(found: RunFindings) -> tuple[str, list[_Point]]:
    """Name of the FID in the picture, and every schedule that was measured by it."""
    schedules = (*found.schedules, *found.others)
    points = [_Point(s, *s.fresh) for s in schedules if s.fresh is not None]
    is_fresh = bool(points) and not found.fresh_alike
    if not points or _comparable(found):
        others = [s for s in schedules if s.fresh is None]
        points += [_Point(s, _at_fresh_seeds(found, s.fid), None) for s in others]
    return found.fresh_fid_name if is_fresh else found.fid_name, points


def _comparable(found: RunFindings) -> bool:
    """Whether the search's FIDs can be put beside confirmed ones."""
    return found.fresh_alike or (found.curse is not None and found.curse.expected(0.0) is not None)


def _at_fresh_seeds(found: RunFindings, fid: float) -> float:
    """What fresh seeds should show; a seed shifts all FIDs alike."""
    expected = None if found.curse is None else found.curse.expected(fid)
    return fid if expected is None else expected[0]


def _draw_point(axes, point: _Point, *, pale: bool) -> None:  # type: ignore[no-untyped-def]
    schedule = point.schedule
    is_full, searched = schedule.name == FULL, schedule.name is None
    colour = _SEARCHED if searched else _FULL if is_full else _PRESET
    axes.errorbar(
        schedule.latency_ms,
        point.fid,
        yerr=point.half_width,
        xerr=schedule.latency_half_width,
        fmt="*" if is_full else "o" if searched else "D",
        markersize=11 if is_full else 5.5,
        color=colour,
        alpha=0.3 if pale else 0.8,
        elinewidth=1.0,
        capsize=2,
        zorder=3 if searched else 4,
    )


def _add_legend(  # type: ignore[no-untyped-def]
    axes, *, searched: bool, confirmed: bool, pale: bool
) -> None:
    if searched:
        axes.scatter([], [], color=_SEARCHED, alpha=0.8, label="searched")
    axes.scatter([], [], marker="D", color=_PRESET, label="hand-made")
    axes.scatter([], [], marker="*", s=110, color=_FULL, label="full depth")
    title = "bars: 95 %" + "; pale: not confirmed, expected" * pale if confirmed else None
    axes.legend(fontsize=8, title=title, title_fontsize=8)


def _draw_schedules(axes, results: RunResults) -> None:  # type: ignore[no-untyped-def]
    """The front as a heat map: one row per schedule, fastest on top."""
    front: list[FrontEntry] = results.front()
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
            axes.text(
                column,
                row,
                str(depth),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axes.set_yticks(range(len(front)))
    labels = axes.set_yticklabels([f"{e.title}, {_saved(e)}" for e in front], fontsize=7)
    pale = [e.fid_confirmed is None for e in front]
    if mixed := len(set(pale)) > 1:
        for label, unsure in zip(labels, pale, strict=True):
            label.set_alpha(0.45 if unsure else 1.0)
    axes.set_xticks(range(settings.num_intervals))
    axes.set_xlabel("interval of diffusion time, data → noise")
    axes.set_title("blocks run on the front" + "; pale: not confirmed" * mixed)
    axes.figure.colorbar(image, ax=axes, label="blocks")


def _saved(entry: FrontEntry) -> str:
    """Time against full depth: ``-31%``, and ``0%`` rather than ``-0%``."""
    percent = round(100 * entry.acceleration)
    return f"{-percent:+d}%" if percent else "0%"
