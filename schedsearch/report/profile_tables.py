"""What ``schedsearch profile`` prints: both tables, the plans, and how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schedsearch.evaluation.latency_table import LatencyTable
    from schedsearch.search.profile_space import Profile

MAX_COLUMNS = 14
"""Exit depths that a table for the terminal shows; of more, evenly spaced ones."""

_TRUST = {
    "good": ("Good: predictions order schedules reliably.", "green"),
    "rough": ("Rough: close schedules may be in the wrong order.", "yellow"),
    "not to be trusted": (
        "Not to be trusted: is the machine busy? Measure again when it is idle (delete "
        "latency.json).",
        "red",
    ),
}
"""What is said of predictions, and its style."""

NOISY = 2.0
"""Standard errors below which a difference is shown faintly."""


def latency_table(table: LatencyTable) -> Table:
    """Milliseconds of one network call by exit depth, measured and fitted."""
    shown = Table(title="latency table: one network call, by exit depth")
    for title in ("depth", "measured, ms", "fit, ms", "off"):
        shown.add_column(title, justify="right")
    for depth, ms in table.depth_ms.items():
        fit = table.a_ms + table.b_ms * depth
        shown.add_row(str(depth), f"{ms:.3f}", f"{fit:.3f}", f"{fit / ms - 1:+.1%}")
    return shown


def latency_verdict(profile: Profile) -> tuple[str, str]:
    """A sentence on the affine fit, and the style to show it in."""
    table, deviation = profile.latency, profile.deviation
    formula = (
        f"T = {table.c0_ms:.2f} + sum over {table.num_calls} calls of ({table.a_ms:.3f} + "
        f"{table.b_ms:.3f} depth) ms: residuals {table.mean_residual:.1%} on average, "
        f"{table.max_residual:.1%} at most; schedules below predicted {deviation:.1%} off."
    )
    meaning, style = _TRUST[table.trust(deviation)]
    return f"{formula} {meaning}", style


def error_table(profile: Profile) -> Table:
    """Loss above that of the deepest exit, in thousandths, by interval and exit depth."""
    errors = profile.errors
    excess, spread = errors.excess(), np.array(errors.standard_errors)
    columns = shown_columns(len(errors.depths))
    tuned = (
        f"shared weights, {errors.num_steps} steps"
        if errors.num_steps
        else "pretrained weights" + ", exit adapters" * (errors.exits == "adapters")
    )
    shown = Table(
        title=f"error table: 1000 x excess loss by interval and exit depth ({tuned}, "
        f"n={errors.num_images})"
    )
    edges = profile.settings.space.build().edges
    shown.add_column("interval", justify="right")
    if edges is not None:
        shown.add_column("up to", justify="right")
    shown.add_column("calls", justify="right")
    for column in columns:
        shown.add_column(str(errors.depths[column]), justify="right")
    shown.add_column("loss", justify="right")
    last = errors.num_intervals - 1
    for i in range(errors.num_intervals):
        name = {0: "data  0", last: f"noise {last}"}.get(i, str(i))
        cells = [_cell(1000 * excess[i, j], 1000 * spread[i, j]) for j in columns]
        end = [] if edges is None else [f"{edges[i + 1]:.0f}"]
        loss = f"{errors.losses[i][-1]:.4f}"
        shown.add_row(name, *end, str(profile.visits[i]), *cells, loss)
    return shown


def plans_table(profile: Profile) -> Table:
    """Optimal schedules of the error table beside full depth and the hand-made ones."""
    shown = Table(title="optimal schedules of the error table, and the warm starts")
    shown.add_column("schedule")
    shown.add_column("blocks, data → noise")
    for title in ("1000 x excess", "predicted, ms", "measured, ms", "saved"):
        shown.add_column(title, justify="right")
    plans = set(profile.plans)
    for entry in sorted((*profile.hand_made, *profile.plans), key=lambda s: s.predicted_ms):
        shown.add_row(
            entry.name,
            str(entry.schedule),
            f"{1000 * entry.excess:.1f}",
            f"{entry.predicted_ms:.1f}",
            f"{entry.measured_ms:.1f} ± {entry.half_width_ms:.1f}",
            f"{entry.acceleration:.1%}",
            style="bold" if entry in plans else None,
        )
    return shown


def block_values(profile: Profile) -> NDArray[np.float64]:
    """Loss saved per millisecond by each further block, (num_intervals, num_depths - 1).

    Column j is the block that leads from depth j to j + 1; NaN where the solver never calls.
    """
    calls = np.array(profile.visits, dtype=float)[:, None]
    calls[calls == 0] = np.nan
    saved = -np.diff(np.array(profile.errors.losses), axis=1)
    values: NDArray[np.float64] = saved / (calls * profile.latency.b_ms)
    return values


def shown_columns(num_depths: int) -> list[int]:
    """Columns of a table: all of few, else evenly spaced ones with both ends."""
    if num_depths <= MAX_COLUMNS:
        return list(range(num_depths))
    return sorted({round(x) for x in np.linspace(0, num_depths - 1, MAX_COLUMNS).tolist()})


def closing_lines(files: Sequence[str], command: str) -> list[str]:
    """How to read it, and what to do next.

    Args:
        files: Pictures and numbers.
        command: The search that uses the tables.
    """
    return [
        "Excess within two standard errors of 0 is dim. It ranks schedules roughly and before "
        "any trial; the search starts from it, FID decides.",
        f"Pictures and numbers: {', '.join(files)}",
        f"Next: {command}",
    ]


def _cell(excess: float, spread: float) -> Text:
    text = f"{excess:.0f}" if abs(excess) >= 100 else f"{excess:.3g}"
    if abs(excess) < 0.005:
        text = "0"
    return Text(text, style="dim" if abs(excess) <= NOISY * spread else "")
