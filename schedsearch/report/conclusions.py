"""What a run found, how sure that is, and what to do next: plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from schedsearch.report.findings import findings_of
from schedsearch.formatting import rounded
from schedsearch.runs.costs import duration
from schedsearch.statistics.findings import PresetFinding, RunFindings
from schedsearch.statistics.paired import Verdict

if TYPE_CHECKING:
    from schedsearch.runs.results import RunResults
    from schedsearch.statistics.comparison import Comparison


def conclusions(
    run: RunResults | RunFindings,
    run_dir: str,
    *,
    certificate: str | None = None,
    stage_seconds: Mapping[str, float] | None = None,
) -> list[str]:
    """Sentences below the tables; none for a run without results.

    Args:
        run: The run, or what was found in it.
        run_dir: The run folder as people type it.
        certificate: How much better the surrogate thinks that a schedule could be.
        stage_seconds: Busy seconds by stage.
    """
    found = run if isinstance(run, RunFindings) else findings_of(run)
    lines = []
    if found.hypervolume is not None and found.baseline_hypervolume is not None:
        lines.append(
            f"Hypervolume {found.hypervolume:.4f}, of the hand-made schedules and full depth "
            f"alone {found.baseline_hypervolume:.4f} (box: 3 x FID, 1.01 x latency of full depth)."
        )
    compared = [preset for preset in found.presets if preset.comparison is not None]
    if compared:
        lines.append(f"{_how_sure(compared)} {found.fine_tunes}")
        lines += _audit(compared)
    if found.curse is not None:
        lines.append(found.curse.sentence)
    if found.rungs is not None:
        lines.append(found.rungs.sentence("The search's FID", "the confirmed one"))
    if found.table is not None:
        lines.append(found.table.sentence("The error table's sum", "the search's FID"))
    if certificate is not None:
        lines.append(certificate)
    if stage_seconds:
        lines.append(_where_the_time_went(stage_seconds))
    if found.schedules:
        lines.append(_next(found, run_dir))
    return lines


_WORDS: dict[Verdict, str] = {
    "better": "better than",
    "no difference": "no different, as far as seen, from",
    "worse": "worse than",
}


def _how_sure(compared: Sequence[PresetFinding]) -> str:
    groups: dict[Verdict, list[str]] = {"better": [], "no difference": [], "worse": []}
    kinds, widths = [], []
    for preset in compared:
        if (comparison := preset.comparison) is not None:
            groups[comparison.verdict].append(preset.preset.title)
            kinds.append(_seeds_of(comparison))
            widths.append(comparison.half_width)
    parts = [f"{_WORDS[verdict]} {', '.join(names)}" for verdict, names in groups.items() if names]
    return (
        f"How sure: the best searched schedule at each preset's latency is {'; '.join(parts)} "
        f"(paired 95 % intervals over {' or '.join(dict.fromkeys(kinds))} with the same noise, "
        f"half-width up to {rounded(max(widths))}; each verdict errs once in twenty, so of four "
        "one may well be wrong)."
    )


def _seeds_of(comparison: Comparison) -> str:
    evaluation = f"{comparison.num_seeds} fresh evaluation seeds"
    if not comparison.num_training_seeds:
        return evaluation
    return f"{comparison.num_training_seeds} fresh training seeds x {evaluation}"


def _audit(compared: Sequence[PresetFinding]) -> list[str]:
    """Where the auditor was asked, whether it says the same."""
    pairs = [
        (p.preset.title, p.comparison.verdict, p.audit.verdict)
        for p in compared
        if p.comparison is not None and p.audit is not None
    ]
    if not pairs:
        return []
    others = [(title, theirs) for title, ours, theirs in pairs if ours != theirs]
    if not others:
        return ["The auditor's FID, which chose nothing, gives the same verdicts."]
    parts = [
        f"{words} {', '.join(title for title, theirs in others if theirs == verdict)}"
        for verdict, words in reversed(_WORDS.items())  # what warns first
        if verdict in {theirs for _, theirs in others}
    ]
    if agreed := [title for title, ours, theirs in pairs if ours == theirs]:
        parts.append(f"as above for {', '.join(agreed)}")
    return [f"By the auditor's FID, which chose nothing, it is {'; '.join(parts)}."]


def _where_the_time_went(stage_seconds: Mapping[str, float]) -> str:
    total = sum(stage_seconds.values())
    parts = [
        f"{stage} {seconds / total:.0%}"
        for stage, seconds in sorted(stage_seconds.items(), key=lambda item: -item[1])
        if seconds > 0
    ]
    return f"Where the time went: {', '.join(parts)} of {duration(total)} on workers."


def _next(found: RunFindings, run_dir: str) -> str:
    # The best searched schedule; where the hand-made ones won, the best of all.
    front = [schedule for schedule in found.schedules if schedule.on_front]
    best = next((s for s in reversed(front) if s.name is None), front[-1])
    return (
        f"Next: schedsearch dashboard {run_dir}   ·   schedsearch pick {run_dir} --knee   ·   "
        f"schedsearch export {run_dir} --trial {best.trial} -o schedule.yaml"
    )
