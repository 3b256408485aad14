"""Scores as a table and as a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.schedulebench.runner import OURS, UNIFORM, Scores
from schedsearch.statistics.intervals import mean_interval

TOO_EASY = (0.95, 30)
"""A space on which uniform random reaches this share at this many trials says little."""
COVERAGE = (
    "Mean over the searches and 95 % t interval. Searches on a table share its evaluation seeds, "
    "so the intervals say nothing of other evaluation seeds."
)


def means(scores: Scores, budget: int) -> dict[str, float]:
    """Mean score of each proposer at one budget."""
    return {name: statistics.fmean(by_budget[budget]) for name, by_budget in scores.items()}


def table(scores: Scores, budgets: Sequence[int]) -> str:
    """A Markdown table of means and half-widths of their 95 % intervals, in percent.

    Args:
        scores: Of all proposers.
        budgets: Columns.
    """
    lines = [
        "| proposer | " + " | ".join(f"{budget} trials" for budget in budgets) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    last = means(scores, budgets[-1])
    for name in sorted(scores, key=lambda n: -last[n]):
        cells = [_percent(scores[name][budget]) for budget in budgets]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if OURS in scores and len(scores) > 1:
        cells = [against_second(scores, budget) for budget in budgets]
        lines.append("| ours - second | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", COVERAGE])


def against_second(scores: Scores, budget: int) -> str:
    """Paired difference of ours to the best of the others."""
    others = {name: mean for name, mean in means(scores, budget).items() if name != OURS}
    second = max(others, key=lambda name: others[name])
    pairs = zip(scores[OURS][budget], scores[second][budget], strict=True)
    return f"{_percent([ours - other for ours, other in pairs], '+.2f')} ({second})"


def warning(scores: Scores, name: str) -> str | None:
    """A line when the space is too easy to tell proposers apart."""
    share, trials = TOO_EASY
    easy = scores.get(UNIFORM, {}).get(trials)
    if easy and statistics.fmean(easy) >= share:
        return (
            f"warning: on {name}, uniform random reaches {statistics.fmean(easy):.1%} at {trials} "
            "trials; the space is too easy to tell proposers apart"
        )
    return None


def plot(scores: Scores, budgets: Sequence[int], title: str, path: Path) -> None:
    """Hypervolume against trials, with 95 % intervals as bands."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    last = means(scores, budgets[-1])
    for name in sorted(scores, key=lambda n: -last[n]):
        middle = [100 * statistics.fmean(scores[name][b]) for b in budgets]
        half = [100 * _half_width(scores[name][b]) for b in budgets]
        (line,) = axes.plot(
            budgets, middle, label=name, linewidth=2.4 if name == OURS else 1.2, marker="."
        )
        axes.fill_between(
            budgets,
            [m - h for m, h in zip(middle, half, strict=True)],
            [m + h for m, h in zip(middle, half, strict=True)],
            color=line.get_color(),
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xscale("log")
    ticks = [b for b in (7, 14, 30, 60, 100, 150, 300) if budgets[0] <= b <= budgets[-1]]
    axes.set_xticks(ticks, [str(b) for b in ticks])
    axes.minorticks_off()
    axes.set_xlabel("trials, those that the tables cost included")
    axes.set_ylabel("% of the exact front's hypervolume")
    axes.set_title(f"{title}\nbands: 95 % t intervals over the searches")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _percent(values: Sequence[float], form: str = ".1f") -> str:
    mean, half = 100 * statistics.fmean(values), 100 * _half_width(values)
    return f"{mean:{form}}" + (f" ± {half:{form.lstrip('+')}}" if math.isfinite(half) else "")


def _half_width(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    _, (low, high) = mean_interval(values)
    return (high - low) / 2
