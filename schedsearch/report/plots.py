"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.atomic import replacing
from schedsearch.hand_made import FULL
from schedsearch.report.tables import fid_name

if TYPE_CHECKING:
    from schedsearch.search.results import FrontEntry, RunResults

_SEARCHED, _PRESET, _FULL = "#1f77b4", "#d62728", "#222222"


def plot_front(results: RunResults, path: Path) -> None:
    """Draw the front with full depth and the presets marked, and the schedules on it.

    Args:
        results: The run.
        path: Where the PNG goes; replaced at once.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_points(left, results)
    _draw_schedules(right, results)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_points(axes, results: RunResults) -> None:  # type: ignore[no-untyped-def]
    front = results.front()
    shown = results.entries
    searched = [entry for entry in shown if entry.name is None]
    axes.scatter(
        [e.latency_ms for e in searched],
        [e.fid for e in searched],
        color=_SEARCHED,
        alpha=0.6,
        label="searched",
        zorder=3,
    )
    axes.step(
        [e.latency_ms for e in front],
        [e.fid for e in front],
        where="post",
        color=_SEARCHED,
        linewidth=1.4,
        label="Pareto front",
        zorder=2,
    )
    for entry in shown:
        if entry.name is None:
            continue
        is_full = entry.name == FULL
        axes.scatter(
            entry.latency_ms,
            entry.fid,
            marker="*" if is_full else "D",
            s=130 if is_full else 40,
            color=_FULL if is_full else _PRESET,
            zorder=4,
        )
        axes.annotate(
            entry.title,
            (entry.latency_ms, entry.fid),
            textcoords="offset points",
            xytext=(6, 5),
            fontsize=8,
        )
    axes.scatter([], [], marker="D", color=_PRESET, label="hand-made")
    axes.scatter([], [], marker="*", s=110, color=_FULL, label="full depth")
    batch = results.settings.evaluation.latency_batch
    axes.set_xlabel(f"latency, ms per batch of {batch}")
    axes.set_ylabel(fid_name(shown))
    axes.set_title(results.settings.name)
    axes.margins(x=0.12, y=0.1)  # room for the names
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


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
    axes.set_yticklabels([f"{e.title}, {_saved(e)}" for e in front], fontsize=7)
    axes.set_xticks(range(settings.num_intervals))
    axes.set_xlabel("interval of diffusion time, data → noise")
    axes.set_title("blocks run on the front")
    axes.figure.colorbar(image, ax=axes, label="blocks")


def _saved(entry: FrontEntry) -> str:
    """Time against full depth: ``-31%``, and ``0%`` rather than ``-0%``."""
    percent = round(100 * entry.acceleration)
    return f"{-percent:+d}%" if percent else "0%"
