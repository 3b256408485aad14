"""The sentences below the tables: what a run found, how sure, and what next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedsearch.formatting import duration, for_shell
from schedsearch.report.disagreements import disagreements

if TYPE_CHECKING:
    from schedsearch.report.findings import RunFindings
    from schedsearch.runs.comparison import Comparison
    from schedsearch.runs.costs import Costs
    from schedsearch.statistics.paired import Verdict


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
    full = found.results.full()
    others = [entry for entry in found.shown if entry is not full]
    lines = [*_what_beats_what(found), *_warnings(found), *disagreements(full, others)]
    if found.results.start is not None:
        lines.append(found.results.start.sentence)
    if costs is not None and costs.device_seconds:
        lines.append(_where_the_time_went(costs))
    lines.append(f"Next: schedsearch pick {for_shell(run_dir)} --knee")
    return lines


def _what_beats_what(found: RunFindings) -> list[str]:
    parts = []
    if better := _with_verdict(found, "better"):
        parts.append(f"searched schedules beat {_titles(better)} at no higher latency")
    worse = _with_verdict(found, "worse")
    if near := [comparison for comparison in worse if not comparison.is_faster]:
        parts.append(f"{_titles(near)} {'beat' if len(near) > 1 else 'beats'} the search")
    if far := [comparison for comparison in worse if comparison.is_faster]:
        parts.append(f"below {_titles(far)} the search is {_range_faster(far)} faster and worse")
    if unsure := _with_verdict(found, "no difference"):
        parts.append(f"not sure against {_titles(unsure)}")
    return [f"{_sentence(parts)} ({_judges(found)})."] if parts else []


def _warnings(found: RunFindings) -> list[str]:
    parts = []
    judged = [comparison for comparison in found.comparisons if comparison.difference is not None]
    if judged and not any(comparison.num_training_seeds for comparison in judged):
        parts.append(_fine_tunes(found))
    if disagreeing := [comparison for comparison in judged if _auditor_disagrees(comparison)]:
        parts.append(f"the auditor disagrees on {_titles(disagreeing)}")
    if found.ranks_badly:
        parts.append(f"the search ranked badly (Kendall's tau {found.tau:.2f}): use more steps")
    return [f"{_sentence(parts)}."] if parts else []


def _auditor_disagrees(comparison: Comparison) -> bool:
    """Whether one calls better what the other calls worse."""
    found = (comparison.difference, comparison.audit)
    return {side.verdict for side in found if side is not None} == {"better", "worse"}


def _fine_tunes(found: RunFindings) -> str:
    """How much training the comparison rests on."""
    recipe = found.results.settings.recipe
    if recipe.weights == "shared":
        return "all schedules share one set of tuned weights"
    if not recipe.num_steps:
        return "no schedule was fine-tuned"
    return "each was fine-tuned once, so other training seeds may differ"


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


def _with_verdict(found: RunFindings, verdict: Verdict) -> list[Comparison]:
    return [
        comparison
        for comparison in found.comparisons
        if comparison.difference is not None and comparison.difference.verdict == verdict
    ]


def _titles(comparisons: Sequence[Comparison]) -> str:
    names = [comparison.preset.title for comparison in comparisons]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _range_faster(comparisons: Sequence[Comparison]) -> str:
    percents = sorted(round(100 * comparison.time_saved) for comparison in comparisons)
    low, high = percents[0], percents[-1]
    return f"{low}%" if low == high else f"{low} to {high}%"


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:]
