"""Pictures of a profile: latency table, error table, and what a further block buys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schedsearch.files.atomic import replacing
from schedsearch.report.profile_tables import block_values
from schedsearch.schedules.edges import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from schedsearch.search.profile_space import Profile, ProfiledSchedule

_MEASURED, _FIT = "#1f77b4", "#d62728"

_COLOURS = ("#ffffff", "#7fe7ff", "#ffb000")
_DECADES = 4.0
"""Range of the colours; smaller values look alike."""

_MAX_LABELLED = 16
"""Depths up to which every cell shows its number."""


def plot_latency_table(profile: Profile, path: Path) -> None:
    """One network call by exit depth, and sampling runs against their predictions.

    Args:
        profile: The profile.
        path: Where the PNG goes; replaced at once.
    """
    from matplotlib.figure import Figure

    table = profile.latency
    figure = Figure(figsize=(9.2, 4.2), dpi=140, layout="constrained")
    calls, runs = figure.subplots(1, 2)
    depths = list(table.depth_ms)
    fit = [table.a_ms + table.b_ms * depth for depth in depths]
    calls.plot(depths, fit, color=_FIT, label=f"{table.a_ms:.3f} + {table.b_ms:.3f} x depth")
    calls.plot(depths, list(table.depth_ms.values()), "o", color=_MEASURED, label="measured")
    calls.set_ylim(bottom=0)
    calls.set_xlabel("exit depth, blocks")
    calls.set_ylabel("ms")
    calls.set_title("one network call", fontsize=11)

    schedules = (*profile.plans, *profile.hand_made)
    predicted = [schedule.predicted_ms for schedule in schedules]
    runs.plot(
        ends := [min(predicted), max(predicted)], ends, color=_FIT, label="as predicted", zorder=1
    )
    runs.errorbar(
        predicted,
        [schedule.measured_ms for schedule in schedules],
        yerr=[schedule.half_width_ms for schedule in schedules],
        fmt="o",
        color=_MEASURED,
        capsize=2,
        label="measured, 95 %",
    )
    runs.set_xlabel("predicted, ms")
    runs.set_ylabel("ms")
    runs.set_title(f"sampling runs: {profile.deviation:.1%} off on average", fontsize=11)
    for axes in (calls, runs):
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    protocol = table.protocol
    figure.suptitle(
        f"{profile.settings.name}: {protocol.device}, {protocol.arithmetic}, "
        f"batch {protocol.batch}, {table.num_calls} calls per run",
        fontsize=10,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def plot_error_table(profile: Profile, path: Path) -> None:
    """Heat map of the excess loss, with the plans at three latencies as staircases.

    Args:
        profile: The profile.
        path: Where the PNG goes; replaced at once.
    """
    errors = profile.errors
    settings = profile.settings
    tuned = f"shared, tuned for {errors.num_steps} steps" if errors.num_steps else "pretrained"
    _plot(
        profile,
        1000 * errors.excess(),
        errors.depths,
        path,
        title=f"{settings.name}: weighted loss above that of the deepest exit, in thousandths",
        note=f"weights: {tuned}; n={errors.num_images} per cell",
        colours="magma",
        label="1000 x excess loss",
        y_label="exit depth, blocks",
    )


def plot_block_values(profile: Profile, path: Path) -> None:
    """Heat map of the loss that each further block saves per millisecond.

    A plan runs the cells below its staircase: the most valuable blocks that fit its latency.

    Args:
        profile: The profile.
        path: Where the PNG goes; replaced at once.
    """
    latency = profile.latency
    values = block_values(profile)
    positive = values[np.isfinite(values) & (values > 0)]
    power = int(np.floor(np.log10(np.median(positive)))) if positive.size else 0
    _plot(
        profile,
        values / 10.0**power,
        profile.errors.depths[1:],
        path,
        title=f"{profile.settings.name}: loss that one more block saves per millisecond",
        note=f"{latency.b_ms:.3f} ms per block and call for a batch of {latency.protocol.batch} "
        f"on {latency.protocol.device}; hatched: nothing, or less than nothing",
        colours="viridis",
        label=f"loss saved per ms, times $10^{{{power}}}$",
        y_label="block",
    )


def _plot(
    profile: Profile,
    values: NDArray[np.float64],
    depths: Sequence[int],
    path: Path,
    *,
    title: str,
    note: str,
    colours: str,
    label: str,
    y_label: str,
) -> None:
    """A heat map of (interval, depth), depths upwards."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    num_intervals = len(values)
    height = float(np.clip(1.8 + 0.34 * len(depths), 4.2, 9.0))
    figure = Figure(figsize=(9.2, height), dpi=140, layout="constrained")
    axes = figure.subplots()
    positive = values[np.isfinite(values) & (values > 0)]
    top = float(positive.max()) if positive.size else 1.0
    floor = max(top / 10**_DECADES, float(positive.min(initial=top)))
    # One value alone would be a range of nothing.
    norm = LogNorm(vmin=min(floor, top / 10), vmax=top)
    colour_map = colormaps[colours].with_extremes(bad="#d9d9d9")
    shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    edges = np.arange(num_intervals + 1) - 0.5
    levels = np.append(np.array(depths) - 0.5, depths[-1] + 0.5)
    mesh = axes.pcolormesh(edges, levels, np.maximum(shown, floor).T, cmap=colour_map, norm=norm)
    _mark_cells(axes, values, depths, mesh)
    _draw_plans(axes, profile.plans, num_intervals)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(levels[0] - 0.3, levels[-1] + 0.2)  # room for plans along the edges
    axes.set_xticks(range(0, num_intervals, max(1, num_intervals // 20)))
    axes.set_yticks(list(depths) if len(depths) <= _MAX_LABELLED else list(depths)[::3])
    ends = profile.settings.space.build().edges
    if ends is not None:
        note = f"edges {in_words(ends)}\n{note}"
    axes.set_xlabel(f"interval of diffusion time, data → noise\n{note}", fontsize=9)
    if profile.plans:
        axes.figure.legend(
            loc="outside lower center",
            ncols=3,
            fontsize=9,
            facecolor="#6a6a6a",
            labelcolor="white",
            framealpha=1.0,
        )
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize=11)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, label=label, pad=0.02)
    bar.outline.set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _mark_cells(axes, values, depths, mesh) -> None:  # type: ignore[no-untyped-def]
    """Numbers where there is room, hatching where a value is not above 0."""
    from matplotlib.patches import Rectangle

    labelled = len(depths) <= _MAX_LABELLED and len(values) <= _MAX_LABELLED
    for i, row in enumerate(values):
        for depth, value in zip(depths, row, strict=True):
            if not np.isfinite(value) or value <= 0:
                corner = (i - 0.5, depth - 0.5)
                axes.add_patch(
                    Rectangle(corner, 1, 1, hatch="////", fill=False, edgecolor="#b0b0b0", lw=0)
                )
                continue
            if labelled:
                red, green, blue, _ = mesh.cmap(mesh.norm(max(value, mesh.norm.vmin)))
                bright = 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
                axes.text(
                    i,
                    depth,
                    _short(value),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="#202020" if bright else "#f4f4f4",
                )


def _draw_plans(axes, plans: Sequence[ProfiledSchedule], num_intervals: int) -> None:  # type: ignore[no-untyped-def]
    """Up to three plans as staircases above the blocks that they run."""
    import matplotlib.patheffects as effects

    chosen = [plans[i] for i in sorted({0, len(plans) // 2, len(plans) - 1})] if plans else []
    for offset, (plan, colour) in enumerate(zip(chosen, _COLOURS, strict=False)):
        tops = np.array(plan.schedule.depths) + 0.5 - 0.09 * offset  # apart where they coincide
        axes.stairs(
            tops,
            np.arange(num_intervals + 1) - 0.5,
            baseline=None,
            color=colour,
            linewidth=2.2,
            label=f"{plan.name}: {_milliseconds(plan.measured_ms)}, {plan.acceleration:.0%} saved",
            path_effects=[effects.Stroke(linewidth=4.2, foreground="#202020"), effects.Normal()],
            clip_on=False,
            zorder=5,
        )


def _milliseconds(ms: float) -> str:
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def _short(value: float) -> str:
    """At most four characters: ``1.76k``, ``323``, ``5.2``, ``.08``."""
    if value >= 1000:
        return f"{value / 1000:.2g}k"
    if value >= 9.95:
        return f"{value:.0f}"
    if value >= 0.995:
        return f"{value:.1f}"
    return f"{value:.2f}".lstrip("0") if value >= 0.005 else "~0"
