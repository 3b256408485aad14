"""Rules for the recipe: what it asks of the network and of the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedsearch.config.backbone_rules import (
    has_null_class_of,
    known_arguments,
    learns_variance_of,
    num_classes_of,
)
from schedsearch.files.problems import Findings
from schedsearch.settings import BackboneSettings, DiffusionSettings, RecipeSettings, StudySettings

OUR_TRAINER = StudySettings.__dataclass_fields__["trainer"].default


def check_recipe(sections: Mapping[str, Any], findings: Findings) -> None:
    """Check the recipe by itself and against the valid sections that it depends on.

    A trainer of someone else may read the recipe in its own way, so what ours asks of the
    network is checked for ours alone. What only the class of a foreign network can tell is left
    to the trainer.

    Args:
        sections: The valid sections, by name.
        findings: Receives the mistakes.
    """
    recipe: RecipeSettings | None = sections.get("recipe")
    if recipe is None:
        return
    if recipe.accumulate > recipe.batch_size:
        findings.add(
            ("recipe", "accumulate"),
            f"cuts a batch of {recipe.batch_size} into {recipe.accumulate} parts",
            "make it at most recipe.batch_size",
        )
    if recipe.weights == "shared" and recipe.num_steps == 0:
        findings.add(
            ("recipe", "weights"),
            "shared weights are tuned for recipe.num_steps, but that is 0",
            "set num_steps to 1 or more, or weights to own",
        )
    backbone: BackboneSettings | None = sections.get("backbone")
    if backbone is None or findings.touches(("backbone",)) or recipe.num_steps == 0:
        return
    if sections.get("trainer") != OUR_TRAINER:
        return
    diffusion: DiffusionSettings | None = sections.get("diffusion")
    if diffusion is not None:
        _check_loss(recipe, backbone, diffusion, findings)
    if recipe.label_dropout > 0 and num_classes_of(backbone) and not has_null_class_of(backbone):
        arguments = known_arguments(backbone)
        assert arguments is not None
        findings.add(
            ("recipe", "label_dropout"),
            f"the backbone has no label for 'no class', got {recipe.label_dropout:g}",
            f"set it to 0, or use a backbone with {arguments.null_class_remedy}",
        )
    if recipe.freeze_time_embedder and _time_embedder_is_empty(backbone):
        findings.add(
            ("recipe", "freeze_time_embedder"),
            "there is nothing to freeze: a U-ViT without mlp_time_embed has no weights there",
            "set it to false",
        )


def _check_loss(
    recipe: RecipeSettings,
    backbone: BackboneSettings,
    diffusion: DiffusionSettings,
    findings: Findings,
) -> None:
    learns = learns_variance_of(backbone)
    if recipe.loss == "hybrid" and learns is False:
        findings.add(
            ("recipe", "loss"),
            "hybrid trains a learned variance, but the backbone has none",
            "set it to mse or auto",
        )
    elif diffusion.betas == "vp" and (
        recipe.loss == "hybrid" or (recipe.loss == "auto" and learns)
    ):
        findings.add(
            ("recipe", "loss"),
            f"{recipe.loss} trains the learned variance of a discrete process, but "
            "diffusion.betas is vp",
            "set it to mse",
        )


def _time_embedder_is_empty(backbone: BackboneSettings) -> bool:
    return getattr(known_arguments(backbone), "mlp_time_embed", True) is False
