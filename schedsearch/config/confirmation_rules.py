"""Rules for the seeds behind runoffs and verdicts, and for the control of FIDs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.settings import EvaluationSettings

if TYPE_CHECKING:
    from schedsearch.config.problems import Findings


def check_confirmation(sections: Mapping[str, Any], findings: Findings) -> None:
    """Fine-tunes anew need seeds to be measured at, and a fine-tune; a control many images."""
    evaluation: EvaluationSettings | None = sections.get("evaluation")
    if evaluation is None:
        return
    few, many = evaluation.num_samples, evaluation.control_samples
    least = (1 + evaluation.seeds_per_trial) * few
    if many and (many < least or many % few):
        findings.add(
            ("evaluation", "control_samples"),
            f"must be 0, or a multiple of num_samples ({few}), {least} at least; got {many}",
            f"set it to {max(8 * few, least)}, or to 0",
        )
    recipe, several = sections.get("recipe"), evaluation.seeds_per_trial
    if several > 1 and recipe is not None and not recipe.num_steps:
        findings.add(
            ("evaluation", "seeds_per_trial"),
            f"with recipe.num_steps: 0 there is no fine-tune to repeat; got {several}",
            f"set it to 1, and num_samples to {several * few} for as many images",
        )
    if evaluation.confirm_training_seeds == 1:
        findings.add(
            ("evaluation", "confirm_training_seeds"),
            "an interval over training seeds needs two of them, got 1",
            "set it to 3, or to 0 for the trials' own fine-tunes",
        )
    confirm_seeds = ("confirm_seeds", evaluation.confirm_seeds)
    needed = {
        "confirm_training_seeds": [confirm_seeds],
        "runoff_training_seeds": [("runoff_seeds", evaluation.runoff_seeds), confirm_seeds],
    }
    for key, evaluation_seeds in needed.items():
        num_training = getattr(evaluation, key)
        if not num_training:
            continue
        at = ("evaluation", key)
        for name, count in evaluation_seeds:
            if not count:
                findings.add(
                    at,
                    f"fine-tunes anew are measured at evaluation seeds, but {name} is 0",
                    f"set {name} to 2 or more, or this to 0",
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
