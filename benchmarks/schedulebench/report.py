"""Scores as a table, a verdict on the difference to the second, and a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.schedulebench.runner import OURS, UNIFORM, Scores
from schedsearch.statistics.intervals import mean_interval

TOO_EASY = (0.95, 30)
"""A space on which uniform random reaches this share at this many trials says little."""
ENOUGH_SEEDS = 3
"""Evaluation seeds from which on their mean gets an interval."""


def means(scores: Scores, budget: int) -> dict[str, float]:
    """Mean score of each proposer at one budget."""
    return {name: statistics.fmean(by_budget[budget]) for name, by_budget in scores.items()}


def table(scores: Scores, budgets: Sequence[int], num_seeds: int | None) -> str:
    """A Markdown table: mean over the searches in percent, and half of its 95 % interval.

    Args:
        scores: Of all proposers.
        budgets: Columns.
        num_seeds: Evaluation seeds that the searches share; None where each has its own.
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
        if num_seeds is not None:
            cells = [by_evaluation_seed(scores, budget, num_seeds) for budget in budgets]
            lines.append("| by evaluation seed | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", coverage(num_seeds)])


def coverage(num_seeds: int | None) -> str:
    """What the intervals of the table hold for, in plain words."""
    if num_seeds is None:
        return (
            "95 % intervals over searches, each with an evaluation seed of its own: they cover "
            "the luck of proposers and of evaluation seeds."
        )
    return (
        f"95 % intervals over searches cover the luck of proposers within this table's "
        f"{num_seeds} evaluation seeds, which the searches share, and say nothing of other "
        "evaluation seeds. Those are what the last row is for: the difference to the second at "
        f"each of them, a mean over its searches, and from {ENOUGH_SEEDS} of them on the "
        "interval of their mean."
    )


def against_second(scores: Scores, budget: int) -> str:
    """Paired difference of ours to the best of the others, and what its interval says."""
    second, differences = _to_second(scores, budget)
    if len(differences) < 2:
        return f"{100 * differences[0]:+.2f} ({second})"
    shown, verdict = _judged(differences)
    return f"{shown} ({second}): {verdict}"


def by_evaluation_seed(scores: Scores, budget: int, num_seeds: int) -> str:
    """The same difference at each evaluation seed, and the interval of their mean.

    Args:
        scores: One per search; search s sees evaluation seed s modulo ``num_seeds``.
        budget: Column.
        num_seeds: Evaluation seeds of the table.
    """
    _, differences = _to_second(scores, budget)
    groups = [differences[k::num_seeds] for k in range(min(num_seeds, len(differences)))]
    of_seeds = [statistics.fmean(group) for group in groups]
    each = " ".join(f"{100 * value:+.2f}" for value in of_seeds)
    if len(of_seeds) < ENOUGH_SEEDS:
        return each
    shown, verdict = _judged(of_seeds)
    return f"{each}; mean {shown}: {verdict}"


def _to_second(scores: Scores, budget: int) -> tuple[str, list[float]]:
    """Name of the best of the others, and ours minus it, one value per search."""
    others = {name: mean for name, mean in means(scores, budget).items() if name != OURS}
    second = max(others, key=lambda name: others[name])
    pairs = zip(scores[OURS][budget], scores[second][budget], strict=True)
    return second, [ours - other for ours, other in pairs]


def _judged(differences: Sequence[float]) -> tuple[str, str]:
    """Mean and half-width in percent, and the verdict."""
    mean, (low, high) = mean_interval(differences)
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference"
    return f"{100 * mean:+.2f} ± {50 * (high - low):.2f}", verdict


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
    """Hypervolume against trials, with the table's 95 % intervals as bands."""
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
    axes.set_title(f"{title}\nbands: 95 % over searches within the evaluation seeds they share")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _percent(values: Sequence[float]) -> str:
    mean, half = statistics.fmean(values), _half_width(values)
    return f"{100 * mean:.1f}" + (f" ± {100 * half:.1f}" if math.isfinite(half) else "")


def _half_width(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    _, (low, high) = mean_interval(values)
    return (high - low) / 2
