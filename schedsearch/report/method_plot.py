"""The picture of a comparison: quality over time, one colour per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.files.atomic import replacing
from schedsearch.formatting import fid_title
from schedsearch.pareto import non_dominated
from schedsearch.settings.plan import PLAN
from schedsearch.settings.rows import FULL, TWIN

if TYPE_CHECKING:
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.methods.joined import JoinedMethods
    from schedsearch.runs.methods.results import MethodResults

SLOWEST = 1.05
"""Time, as a share of full depth's, above which a method is left out."""

WORST = 3.0
"""FID, as a multiple of full depth's, above which a method is left out."""

LOG_ABOVE = 4.0
"""Ratio of the largest to the smallest FID above which the axis is logarithmic."""


def plot_methods(results: MethodResults | JoinedMethods, path: Path) -> None:
    """Draw FID over the share of full depth's time, with the front of all methods.

    Lines join the operating points of one entry. Hollow marks are static twins. Bars are 95 %
    intervals over held-out seeds; where some methods have none with as many images, all stand at
    the search's seed without bars. What is slower than full depth, or has a far higher FID, is
    only named.

    Args:
        results: A comparison, or several of one protocol.
        path: Where the PNG goes; replaced at once.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    held_out = len({entry.shown_samples for entry in results.all()}) == 1
    shown, left_out = _shown(results, held_out=held_out)
    plans = [entry for entry in shown if entry.entry == PLAN]
    figure = Figure(figsize=(13.5 if plans else 9.5, 5.5), dpi=130, layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=[3, 2])[0] if plans else figure.subplots()
    if plans:
        _draw_strips(figure.axes[1], {_label(plan.name, plan, results): plan for plan in plans})
    groups: dict[str, list[MethodEntry]] = {}
    for entry in shown:
        key = FULL if entry.name == FULL else _label(entry.entry, entry, results)
        groups.setdefault(key + TWIN * entry.name.endswith(TWIN), []).append(entry)
    colours = [*colormaps["tab20"].colors, *colormaps["tab20b"].colors]  # type: ignore[attr-defined]
    names = sorted({key.removesuffix(TWIN) for key in groups} - {FULL})
    colour_of = {name: colours[i % len(colours)] for i, name in enumerate(names)}
    for key, entries in sorted(groups.items()):
        timed = sorted((e for e in entries if e.ratio is not None), key=lambda e: e.ratio or 0.0)
        bars = [e.estimate if held_out else None for e in timed]
        twin, base = key.endswith(TWIN), key.removesuffix(TWIN)
        colour = colour_of.get(base, "black")
        axes.errorbar(
            [e.ratio or 0.0 for e in timed],
            [_fid(e, held_out) for e in timed],
            yerr=[0.0 if bar is None else bar.half_width for bar in bars],
            label=None if twin else base,
            color=colour,
            marker="*" if key == FULL else "o",
            markersize=12 if key == FULL else 6,
            markerfacecolor="white" if twin else colour,
            linestyle="--" if twin else "-",
            linewidth=1,
            elinewidth=0.8,
        )
    _draw_front(axes, [(_fid(entry, held_out), entry.ratio or 0.0) for entry in shown])
    fids = [_fid(entry, held_out) for entry in shown]
    if fids and min(fids) > 0 and max(fids) / min(fids) > LOG_ABOVE:
        axes.set_yscale("log")
    first = next(iter(results.all()), None)
    names_left_out = sorted({_label(entry.entry, entry, results) for entry in left_out})
    note = f"\nnot shown, slower or with a far higher FID: {', '.join(names_left_out)}"
    axes.set_xlabel(f"time of a sampling run / full depth's{note * bool(left_out)}")
    axes.set_ylabel("FID" if first is None else _title(first, held_out))
    axes.set_title(results.title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _fid(entry: MethodEntry, held_out: bool) -> float:
    return entry.shown_fid if held_out else entry.fid


def _title(entry: MethodEntry, held_out: bool) -> str:
    return fid_title(entry.features, entry.shown_samples if held_out else entry.num_samples)


def _shown(
    results: MethodResults | JoinedMethods, *, held_out: bool
) -> tuple[list[MethodEntry], list[MethodEntry]]:
    """Methods that fit one picture, and those that would flatten it.

    A method is left out if it is clearly slower than full depth, or its FID is many times
    full depth's.
    """
    shown: list[MethodEntry] = []
    left_out: list[MethodEntry] = []
    full_by_run = {run: part.full() for run, part in results.parts.items()}
    for entry in results.all():
        full, fid = full_by_run[entry.run], _fid(entry, held_out)
        slow = (entry.ratio or 0.0) > SLOWEST
        poor = full is not None and fid > WORST * _fid(full, held_out) > 0
        (left_out if slow or poor else shown).append(entry)
    return shown, left_out


def _label(name: str, entry: MethodEntry, results: MethodResults | JoinedMethods) -> str:
    """A name with its run, where there are several."""
    return f"{name} of {entry.run}" if len(results.parts) > 1 else name


def _draw_front(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    """A line along what is neither slower nor worse than another; points are (FID, time)."""
    front = sorted((points[i] for i in non_dominated(points)), key=lambda point: point[1])
    axes.step(
        [time for _, time in front], [fid for fid, _ in front], where="post", color="0.6",
        linewidth=3, alpha=0.4, label="front", zorder=0,
    )  # fmt: skip


def _draw_strips(axes: Any, plans: Mapping[str, MethodEntry]) -> None:
    """Draw every plan as a strip of its steps, fastest on top."""
    colours = {"F": "#1f77b4", "R": "#fdd0a2", "G": "#fdae6b", "M": "#fd8d3c"}
    for row, plan in enumerate(plans.values()):
        steps = plan.first.steps
        for index, step in enumerate(steps):
            kind, blocks = step[0], step[1:]
            left, width = index / len(steps), 0.92 / len(steps)
            axes.barh(row, width, left=left, color=colours.get(kind, "#74c476"))
            axes.text(left + width / 2, row, blocks or kind, ha="center", va="center", fontsize=7)
    axes.set_yticks(range(len(plans)))
    axes.set_yticklabels(list(plans), fontsize=8)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_xlabel("network calls, noise → data")
    axes.set_title(
        "plans: F all blocks; a number of blocks, then the cached residual (orange)\n"
        "or an exit (green)", fontsize=9,
    )  # fmt: skip
