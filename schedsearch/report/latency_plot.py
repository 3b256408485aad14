"""Picture of a latency table: single calls with the fitted line, and how runs agree with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.files.atomic import replacing

if TYPE_CHECKING:
    from schedsearch.search.profile_space import Profile

_MEASURED, _FIT = "#1f77b4", "#d62728"


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
