"""Plans in words and as a strip, beside full depth and fine-tunes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.settings.plan import PLAN, PlanTarget
from schedsearch.settings.rows import FULL

if TYPE_CHECKING:
    from schedsearch.runs.methods.entry import MethodEntry
    from schedsearch.runs.methods.results import MethodResults

VERDICTS = {
    "better": "better than full depth",
    "worse": "worse than full depth",
    "no difference": "no difference to full depth",
}


def plan_lines(results: MethodResults) -> list[str]:
    """One sentence per plan, by latency, the choice for each target, then what steps mean."""
    lines = [_sentence(results, entry) for entry in results.all() if entry.entry == PLAN]
    if lines:
        lines += choices(results)
        lines.append(
            "Steps: F runs all blocks. R, G and M run that number of blocks, then reuse the last "
            "full step's residual: plain, fitted per channel, or by a map. X and A exit, A with a "
            "map."
        )
    return lines


def choices(results: MethodResults) -> list[str]:
    """The best plan of every target that was planned with several numbers of solver steps.

    Errors of calibration tables with different numbers of steps do not compare, so the mean FID
    over the held-out seeds decides.
    """
    rivals: dict[tuple[str, float], list[MethodEntry]] = {}
    for entry in results.entries:
        if entry.entry == PLAN:
            target = PlanTarget.parse(entry.name.removeprefix(f"{PLAN}-"))
            rivals.setdefault((target.of, target.share), []).append(entry)
    lines = []
    for (of, share), found in sorted(rivals.items(), reverse=True):
        if len(found) > 1:
            best = min(found, key=lambda entry: entry.shown_fid)
            others = ", ".join(f"{e.name} {e.shown_fid:.3f}" for e in found if e is not best)
            what = "time" if of == "latency" else "blocks"
            lines.append(
                f"For {share:g} of full depth's {what} take {best.name}: FID "
                f"{best.shown_fid:.3f}; {others}."
            )
    return lines


def _sentence(results: MethodResults, entry: MethodEntry) -> str:
    full = results.full()
    difference = None if full is None else entry.against(full)
    found = "quality not compared"
    if difference is not None:
        found = (
            f"FID {difference.mean:+.3f} ± {difference.half_width:.3f}, "
            f"{VERDICTS[difference.verdict]}"
        )
    time = "not timed" if entry.ratio is None else f"{entry.ratio:.2f} of full depth's time"
    return f"{entry.name}: {time}; {found}. Steps: {' '.join(entry.first.steps)}"


def added_by_training(results: MethodResults) -> str | None:
    """What the fine-tuned schedules add to the front; None without plans or trials."""
    front = [entry for entry in results.front() if entry.name != FULL]
    if not any(e.entry == PLAN for e in results.entries) or not results.run.entries or not front:
        return None
    tuned = [entry for entry in front if entry.trial is not None]
    plans = [entry for entry in front if entry.entry == PLAN]
    return (
        f"Of {len(front)} points on the front of all methods, {len(tuned)} are fine-tuned "
        f"schedules and {len(plans)} are plans, which need no training."
    )
