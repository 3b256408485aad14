"""What a run found, how sure that is, and what to do next: at most four sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from schedsearch.formatting import duration

if TYPE_CHECKING:
    from schedsearch.report.findings import RunFindings
    from schedsearch.runs.comparison import Comparison
    from schedsearch.runs.costs import Costs


def headline(found: RunFindings) -> str | None:
    """Hypervolume of the front and of the hand-made schedules; None without full depth."""
    volume, baseline = found.results.hypervolume(), found.results.hand_made_hypervolume()
    if volume is None or baseline is None:
        return None
    return (
        f"Hypervolume of the front: {volume:.3f}; of full depth and the hand-made schedules: "
        f"{baseline:.3f}."
    )


def conclusions(found: RunFindings, run_dir: str, costs: Costs | None = None) -> list[str]:
    """Sentences below the tables.

    Args:
        found: What was found in the run.
        run_dir: The run folder as people type it.
        costs: Where the time went.
    """
    lines = [*_what_beats_what(found), *_what_is_not_sure(found)]
    if costs is not None and costs.device_seconds:
        lines.append(_where_the_time_went(costs))
    lines.append(f"Next: schedsearch pick {run_dir} --knee")
    return lines


def _what_beats_what(found: RunFindings) -> list[str]:
    better = _titles(found.comparisons, "better")
    worse = _titles(found.comparisons, "worse")
    if not better and not worse:
        return []
    parts = []
    if better:
        parts.append(f"Searched schedules beat {_joined(better)} at no higher latency")
    if worse:
        parts.append(f"{_joined(worse)} {'beat' if len(worse) > 1 else 'beats'} the search")
    return [f"{'; '.join(parts)} ({_judges(found)})."]


def _what_is_not_sure(found: RunFindings) -> list[str]:
    parts = []
    if unsure := _titles(found.comparisons, "no difference"):
        parts.append(f"not sure against {_joined(unsure)}")
    disagreeing = [
        comparison.preset.title
        for comparison in found.comparisons
        if comparison.difference is not None
        and comparison.audit is not None
        and {comparison.difference.verdict, comparison.audit.verdict} == {"better", "worse"}
    ]
    if disagreeing:
        parts.append(f"the auditor says the opposite on {_joined(disagreeing)}")
    if found.ranks_badly:
        parts.append(
            "the search's FIDs rank the confirmed schedules badly (Kendall's tau "
            f"{found.tau:.2f}), so run with more steps or images"
        )
    if not found.comparisons:
        return [f"{_sentence(parts)}."] if parts else []
    if all(comparison.num_training_seeds == 0 for comparison in found.comparisons):
        parts.append(_fine_tunes(found))
    return [f"{_sentence(parts)}."] if parts else []


def _fine_tunes(found: RunFindings) -> str:
    recipe = found.results.settings.recipe
    if recipe.weights == "shared":
        return "all schedules share one set of tuned weights"
    if not recipe.num_steps:
        return "no schedule was fine-tuned"
    return "each schedule was fine-tuned once, and another training seed may shift this"


def _judges(found: RunFindings) -> str:
    """What the intervals are over."""
    training = max(comparison.num_training_seeds for comparison in found.comparisons)
    evaluation = found.results.settings.evaluation.confirm_seeds
    if training:
        return f"95 % intervals over {training} training seeds"
    return f"95 % intervals over {evaluation} held-out seeds"


def _where_the_time_went(costs: Costs) -> str:
    total = costs.device_seconds
    rows = sorted(costs.stages.items(), key=lambda row: -row[1].device_seconds)
    parts = [
        f"{name} {cost.device_seconds / total:.0%}"
        for name, cost in rows
        if cost.device_seconds >= 0.005 * total
    ]
    return (
        f"Time: {duration(costs.wall_seconds)}, {duration(total)} on workers: {', '.join(parts)}."
    )


def _titles(comparisons: Iterable[Comparison], verdict: str) -> list[str]:
    return [
        comparison.preset.title
        for comparison in comparisons
        if comparison.difference is not None and comparison.difference.verdict == verdict
    ]


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:]
