"""Rules beyond types: values of one section, and agreement between sections.

A rule runs only when the sections it reads are valid, so one mistake is reported once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from schedsearch.config.backbone_rules import (
    PACKAGE_PREFIX,
    check_backbone,
    num_exit_blocks_of,
)
from schedsearch.config.data_rules import check_data, check_features, check_shape
from schedsearch.config.import_strings import why_not_importable
from schedsearch.config.paths import Paths
from schedsearch.config.recipe_rules import check_recipe
from schedsearch.config.solver_rules import check_guidance, check_outputs, check_solver
from schedsearch.config.warm_starts import check_warm_starts
from schedsearch.files.problems import Findings, KeyPath, shown
from schedsearch.settings import (
    BackboneSettings,
    ProfileSettings,
    ResourceSettings,
    SearchSettings,
    SpaceSettings,
    StudySettings,
)

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names become folders and study names, so nothing that a path or a shell could read."""

URL_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+")


def check_rules(sections: Mapping[str, Any], findings: Findings, paths: Paths) -> None:
    """Check all rules whose sections are valid.

    Args:
        sections: The valid sections, by name.
        findings: Receives the mistakes.
        paths: Where relative paths start.
    """
    backbone = sections.get("backbone")
    if backbone is not None:
        check_backbone(backbone, findings, paths)
        # Missing weights leave the other rules meaningful; a wrong network does not.
        if findings.touches(*(("backbone", key) for key in ("name", "family", "config"))):
            backbone = None
        elif "search" in sections and backbone.checkpoint is None and paths.check_disk:
            findings.add(
                ("backbone",),
                "a search fine-tunes pretrained weights, but checkpoint is missing",
                f"name a file, or {PACKAGE_PREFIX}NAME for weights that ship",
            )
    data, space = sections.get("data"), sections.get("space")
    solver, evaluation = sections.get("solver"), sections.get("evaluation")
    if "name" in sections:
        _check_name(sections["name"], findings)
    if data is not None:
        check_data(data, findings, paths)
    if space is not None and not _check_space(space, backbone, findings):
        space = None
    if evaluation is not None:
        check_features(evaluation, data, findings, paths, backbone)
    if backbone is not None and data is not None:
        check_shape(backbone, data, findings)
    if backbone is not None and solver is not None:
        check_guidance(backbone, solver, findings)
        check_outputs(backbone, solver, findings)
    if solver is not None and "diffusion" in sections:
        check_solver(solver, sections["diffusion"], findings)
    check_recipe(sections, findings)
    check_confirmation(sections, findings)
    if "profile" in sections and "search" in sections:
        check_table_seeds(sections["profile"], sections["search"], findings)
    if "trainer" in sections and paths.check_disk:
        _check_trainer(sections["trainer"], findings)
    if "search" in sections:
        _check_storage(sections["search"], findings)
    if "resources" in sections:
        _check_resources(sections["resources"], findings)
    if "warm_start" in sections:
        schedules = check_warm_starts(
            sections["warm_start"],
            space if backbone is not None else None,
            None if backbone is None else num_exit_blocks_of(backbone),
            findings,
            paths,
        )
        if "search" in sections and not findings.touches(("warm_start",)):
            check_number_of_trials(sections["search"], len(schedules), findings)


def check_number_of_trials(search: SearchSettings, warm_starts: int, findings: Findings) -> None:
    """Warm starts are always measured, so there must be room for all of them."""
    if search.n_trials < warm_starts:
        findings.add(
            ("search", "n_trials"),
            f"must be at least the {warm_starts} different warm starts, got {search.n_trials}",
            f"set it to {warm_starts} or more, or remove entries of warm_start",
        )


def check_confirmation(sections: Mapping[str, Any], findings: Findings) -> None:
    """Retraining needs held-out seeds, a fine-tune, and weights of each trial's own."""
    evaluation, recipe = sections.get("evaluation"), sections.get("recipe")
    if evaluation is None or not evaluation.confirm_training_seeds:
        return
    at: KeyPath = ("evaluation", "confirm_training_seeds")
    if evaluation.confirm_training_seeds == 1:
        findings.add(at, "an interval over training seeds needs two of them, got 1", "set it to 3")
    if not evaluation.confirm_seeds:
        findings.add(
            at,
            "retrained schedules are measured at held-out seeds, but confirm_seeds is 0",
            "set confirm_seeds to 1 or more, or this to 0",
        )
    if recipe is not None and recipe.weights == "shared":
        findings.add(
            at,
            "with recipe.weights: shared there is one fine-tune for all schedules",
            "set it to 0, or recipe.weights to own",
        )
    elif recipe is not None and not recipe.num_steps:
        findings.add(
            at,
            "with recipe.num_steps: 0 there is no fine-tune to repeat",
            "set it to 0, or recipe.num_steps to 1 or more",
        )


def check_table_seeds(
    profile: ProfileSettings | None, search: SearchSettings, findings: Findings
) -> None:
    """Optima of the error table need one, where a file asks for them.

    The default asks for nothing: without a profile it counts as 0.
    """
    at: KeyPath = ("search", "dp_seeds")
    asked = at in findings.marks or at in findings.overrides
    if profile is None and asked and search.dp_seeds:
        findings.add(
            at,
            f"seeds come from the error table, but profile is null; got {search.dp_seeds}",
            "set it to 0, or remove profile: null",
        )


def without_table_seeds(settings: StudySettings) -> SearchSettings:
    """The section ``search``, with no seeds where there is no error table."""
    if settings.profile is not None or not settings.search.dp_seeds:
        return settings.search
    return dataclasses.replace(settings.search, dp_seeds=0)


def _check_name(name: str, findings: Findings) -> None:
    if NAME_PATTERN.fullmatch(name) is None:
        findings.add(
            ("name",),
            f"{shown(name)} cannot name a run",
            "use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )


def _check_space(
    space: SpaceSettings, backbone: BackboneSettings | None, findings: Findings
) -> bool:
    if space.min_depth > space.max_depth:
        findings.add(
            ("space", "min_depth"),
            f"must be <= max_depth, got {space.min_depth} and {space.max_depth}",
        )
        return False
    depth = None if backbone is None else num_exit_blocks_of(backbone)
    if depth is not None and space.max_depth > depth:
        findings.add(
            ("space", "max_depth"),
            f"the backbone has {depth} exit blocks, got {space.max_depth}",
            f"set it to {depth} or less",
        )
        return False
    return True


def _check_trainer(trainer: str, findings: Findings) -> None:
    if (broken := why_not_importable(trainer)) is not None:
        findings.add(("trainer",), *broken)


def _check_storage(search: SearchSettings, findings: Findings) -> None:
    at: KeyPath = ("search", "storage")
    if search.storage is not None and URL_PATTERN.fullmatch(search.storage) is None:
        findings.add(
            at,
            f"must be an Optuna storage URL, got {shown(search.storage)}",
            f"write sqlite:///{search.storage}, or remove the key for study.db in the run folder",
        )


def _check_resources(resources: ResourceSettings, findings: Findings) -> None:
    gpus = resources.gpus_per_trial
    if gpus > 1 and not float(gpus).is_integer():
        findings.add(
            ("resources", "gpus_per_trial"),
            f"must be a fraction below 1 or a whole number, got {gpus:g}",
            "a trial shares one GPU or owns some, as in Ray",
        )
