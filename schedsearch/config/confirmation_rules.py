"""Rules for the seeds behind runoffs and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.settings import EvaluationSettings

if TYPE_CHECKING:
    from schedsearch.config.problems import Findings


def check_confirmation(sections: Mapping[str, Any], findings: Findings) -> None:
    """Fine-tunes anew need evaluation seeds to be measured at, and something to do again."""
    evaluation: EvaluationSettings | None = sections.get("evaluation")
    if evaluation is None:
        return
    if 0 < evaluation.control_samples < 2 * evaluation.num_samples:
        findings.add(
            ("evaluation", "control_samples"),
            f"must be 0, or twice num_samples ({evaluation.num_samples}) or more, since it says "
            f"what so few images miss; got {evaluation.control_samples}",
            f"set it to {8 * evaluation.num_samples}, or to 0",
        )
    if evaluation.confirm_training_seeds == 1:
        findings.add(
            ("evaluation", "confirm_training_seeds"),
            "an interval over training seeds needs two of them, got 1",
            "set it to 3, or to 0 for the trials' own fine-tunes",
        )
    for kind in ("confirm", "runoff"):
        num_training = getattr(evaluation, f"{kind}_training_seeds")
        if not num_training:
            continue
        at = ("evaluation", f"{kind}_training_seeds")
        if not getattr(evaluation, f"{kind}_seeds"):
            findings.add(
                at,
                f"fine-tunes anew are measured at evaluation seeds, but {kind}_seeds is 0",
                f"set {kind}_seeds to 2 or more, or this to 0",
            )
        profile, recipe = sections.get("profile"), sections.get("recipe")
        if profile is not None and profile.start == "shared":
            findings.add(
                at,
                f"trials start from one shared fine-tune, not repeated here; got {num_training}",
                "set it to 0, or profile.start to pretrained",
            )
        elif recipe is not None and not recipe.num_steps:
            findings.add(
                at,
                f"with recipe.num_steps: 0 there is no fine-tune to repeat; got {num_training}",
                "set it to 0, or recipe.num_steps to 1 or more",
            )
