"""Rules between sections, and rules for files and classes that must exist.

A rule is a function that yields mistakes. Its parameters name the sections that it reads. It runs
when they are valid, so one mistake is reported once. Rules of one section are in ``settings``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from schedsearch.config.backbone_rules import (
    check_network,
    known_arguments,
    missing_class,
    missing_weights,
    num_exit_blocks_of,
    shipped_family,
)
from schedsearch.config.data_rules import (
    data_files,
    data_keys,
    extractor_files,
    extractors,
    image_shape,
)
from schedsearch.config.paths import PACKAGE_PREFIX, why_not_importable
from schedsearch.config.rival_entries import RIVALS
from schedsearch.config.rival_rules import rivals_fit, rows_differ, steps_fit, trainers_exist
from schedsearch.config.solver_rules import guidance, plans_fit, solver_options, trained_by_flow
from schedsearch.config.warm_starts import (
    WARM_START,
    number_of_trials,
    resolve_warm_starts,
    twins_exist,
)
from schedsearch.files.problems import Findings, Mistake
from schedsearch.settings import (
    BackboneSettings,
    DiffusionSettings,
    EvaluationSettings,
    ProfileSettings,
    RecipeSettings,
    SearchSettings,
    SolverSettings,
    SpaceSettings,
    StudySettings,
)
from schedsearch.settings.plan import PlanSettings

Rule = Callable[..., Iterator[Mistake]]

OUR_TRAINER = StudySettings.__dataclass_fields__["trainer"].default


def check_rules(sections: Mapping[str, Any], findings: Findings, *, check_disk: bool) -> None:
    """Check all rules whose sections are valid.

    Args:
        sections: The valid sections, by name.
        findings: Receives the mistakes.
        check_disk: Whether the files and classes that the sections name must exist.
    """
    usable = dict(sections)
    # NOTE: A wrong network makes other rules meaningless; missing weights do not.
    if "backbone" in sections and not check_network(sections["backbone"], findings):
        del usable["backbone"]
    _run(BETWEEN_SECTIONS, usable, findings)
    if {"backbone", "space", WARM_START} <= usable.keys() and not findings.touches(("space",)):
        _check_warm_starts(usable, findings, check_disk)
    if check_disk:
        _run(ON_DISK, sections, findings)


def _run(rules: tuple[Rule, ...], sections: Mapping[str, Any], findings: Findings) -> None:
    for rule in rules:
        parameters = inspect.signature(rule).parameters
        given = {name: sections[name] for name in parameters if name in sections}
        if all(name in given or p.default is None for name, p in parameters.items()):
            findings.add_all(rule(**given))


def _check_warm_starts(sections: Mapping[str, Any], findings: Findings, read_files: bool) -> None:
    backbone, space = sections["backbone"], sections["space"]
    # NOTE: A wrong entry of rivals is left out, so its row would seem to be missing.
    if not findings.touches((RIVALS,)):
        findings.add_all(twins_exist(sections[WARM_START], sections[RIVALS]))
    starts = resolve_warm_starts(
        sections[WARM_START],
        space,
        findings,
        num_exit_blocks=num_exit_blocks_of(backbone),
        family=shipped_family(backbone),
        clock=sections["diffusion"].clock if "diffusion" in sections else None,
        read_files=read_files,
    )
    if not findings.touches((RIVALS,)):
        findings.add_all(rows_differ(sections[RIVALS], [start.label for start in starts]))
    if "search" in sections and not findings.touches((WARM_START,)):
        findings.add_all(number_of_trials(sections["search"], len(starts)))


def deepest_exit(space: SpaceSettings, backbone: BackboneSettings) -> Iterator[Mistake]:
    """The backbone has as many exit blocks as the space asks for."""
    depth = num_exit_blocks_of(backbone)
    if depth is not None and space.max_depth > depth:
        reason = f"the backbone has {depth} exit blocks, got {space.max_depth}"
        yield "space.max_depth", reason, f"set it to {depth} or less"


def training(
    recipe: RecipeSettings, backbone: BackboneSettings, diffusion: DiffusionSettings, trainer: str
) -> Iterator[Mistake]:
    """The recipe fits the network and the process.

    A custom trainer may read the recipe differently, and a custom network is unknown here. Both
    are left to the trainer.
    """
    arguments = known_arguments(backbone)
    if recipe.num_steps == 0 or trainer != OUR_TRAINER or arguments is None:
        return
    if recipe.loss == "hybrid" and not arguments.predicts_variance:
        reason = "hybrid trains a learned variance, but the backbone has none"
        yield "recipe.loss", reason, "set it to mse or auto"
    elif diffusion.process != "ddpm" and recipe.loss != "mse" and arguments.predicts_variance:
        reason = f"{recipe.loss} trains the learned variance of a discrete process"
        which = "betas is vp" if diffusion.process == "vp" else "process is flow"
        yield "recipe.loss", f"{reason}, but diffusion.{which}", "set it to mse"
    if recipe.label_dropout > 0 and arguments.real_classes and not arguments.has_null_class:
        reason = f"the backbone has no label for 'no class', got {recipe.label_dropout:g}"
        remedy = f"set it to 0, or use a backbone with {arguments.null_class_remedy}"
        yield "recipe.label_dropout", reason, remedy
    if recipe.freeze_time_embedder and not getattr(arguments, "mlp_time_embed", True):
        reason = "there is nothing to freeze: a U-ViT without mlp_time_embed has no weights there"
        yield "recipe.freeze_time_embedder", reason, "set it to false"


def retraining(evaluation: EvaluationSettings, recipe: RecipeSettings) -> Iterator[Mistake]:
    """Retraining needs a fine-tune per schedule."""
    at = "evaluation.confirm_training_seeds"
    if evaluation.confirm_training_seeds and recipe.weights == "shared":
        reason = "with recipe.weights: shared there is one fine-tune for all schedules"
        yield at, reason, "set it to 0, or recipe.weights to own"
    elif evaluation.confirm_training_seeds and not recipe.num_steps:
        reason = "with recipe.num_steps: 0 there is no fine-tune to repeat"
        yield at, reason, "set it to 0, or recipe.num_steps to 1 or more"


def adapters(
    recipe: RecipeSettings,
    backbone: BackboneSettings,
    space: SpaceSettings,
    evaluation: EvaluationSettings,
) -> Iterator[Mistake]:
    """Exit adapters need a second judge, and exits."""
    if recipe.start == "plain":
        return
    if evaluation.auditor is None:
        reason = "adapters are judged by FID and by the auditor, but evaluation.auditor is null"
        yield "recipe.start", reason, "name an auditor, or set start to plain"
    depth = num_exit_blocks_of(backbone)
    if depth is not None and space.min_depth >= depth:
        reason = f"no schedule of the space exits early: space.min_depth is {space.min_depth}"
        yield "recipe.start", reason, "set start to plain"


def guidance_interval(
    solver: SolverSettings, recipe: RecipeSettings, plan: PlanSettings | None
) -> Iterator[Mistake]:
    """Methods that remember a batch need guidance in all calls, or in none."""
    if solver.cfg_interval is None:
        return
    at, remedy = "solver.cfg_interval", "set it to null"
    if plan is not None:
        yield at, "plans reuse what an earlier call made of the same batch", f"{remedy}, or plan"
    if recipe.start == "adapters":
        reason = "adapters are fitted on calls of one batch"
        yield at, reason, f"{remedy}, or recipe.start to plain"


def table_seeds(search: SearchSettings, profile: ProfileSettings | None) -> Iterator[Mistake]:
    """Optimal schedules of the error table need a table."""
    if profile is None and search.dp_seeds:
        reason = f"seeds come from the error table, but profile is null; got {search.dp_seeds}"
        yield "search.dp_seeds", reason, "set it to 0, or remove profile: null"


def pretrained(backbone: BackboneSettings, search: SearchSettings) -> Iterator[Mistake]:
    """A search starts from weights."""
    if backbone.checkpoint is None:
        reason = "a search fine-tunes pretrained weights, but checkpoint is missing"
        yield "backbone", reason, f"name a file, or {PACKAGE_PREFIX}NAME for weights that ship"


def trainer_class(trainer: str) -> Iterator[Mistake]:
    """The module of the trainer exists."""
    if (broken := why_not_importable(trainer)) is not None:
        yield "trainer", *broken


BETWEEN_SECTIONS: tuple[Rule, ...] = (
    data_keys,
    deepest_exit,
    extractors,
    image_shape,
    guidance,
    solver_options,
    guidance_interval,
    trained_by_flow,
    training,
    retraining,
    adapters,
    table_seeds,
    rivals_fit,
    steps_fit,
    plans_fit,
)
ON_DISK: tuple[Rule, ...] = (
    missing_class,
    missing_weights,
    pretrained,
    data_files,
    extractor_files,
    trainer_class,
    trainers_exist,
)
