"""``schedsearch check``: validates a search space file; imports neither torch nor Ray."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.cli.arguments import add_overrides, add_space

if TYPE_CHECKING:
    from schedsearch.settings import DiffusionSettings, EvaluationSettings, StudySettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``check``."""
    add_space(parser)
    add_overrides(parser)


def take_action(args: argparse.Namespace) -> int:
    """Print what a valid file asks for; mistakes come as an exception."""
    from schedsearch.config import find_space, num_exit_blocks_of, read_settings
    from schedsearch.config.warm_starts import twin_row
    from schedsearch.exceptions import ExitCode
    from schedsearch.schedules.edges import in_words
    from schedsearch.search.study.warm_starts import read_warm_starts

    path = find_space(args.space)
    settings = read_settings(path, args.overrides)
    _check_weights(settings)
    if settings.search.storage is not None:
        _check_storage(settings.search.storage)
    depth = num_exit_blocks_of(settings.backbone)
    # NOTE: The depth of a custom class is known once it is built; `run` checks it then.
    starts = read_warm_starts(settings, depth, str(path))

    space, backbone = settings.space, settings.backbone
    ends = space.build().edges
    edges = [] if ends is None else [("edges", in_words(ends))]
    print(f"{path} is valid")
    rows = [
        ("name", settings.name),
        (
            "backbone",
            f"{backbone.name or backbone.family}, "
            f"{'unknown' if depth is None else depth} exit blocks, "
            f"weights: {backbone.checkpoint or 'none'}",
        ),
        (
            "space",
            f"{space.build().size():,} schedules: {space.num_intervals} intervals, depths "
            f"{space.min_depth} to {space.max_depth}, {space.monotone}",
        ),
        *edges,
        ("fine-tune", _recipe(settings)),
        ("profile", _profile(settings)),
        (
            "search",
            f"{settings.search.n_trials} trials, sampler {settings.search.sampler}, "
            f"{settings.search.dp_seeds} seeds of the error table, "
            f"{settings.resources.num_workers} workers",
        ),
        ("budget", _budget(settings)),
        ("process", _process(settings.diffusion)),
        ("solver", _solver(settings)),
        (
            "evaluation",
            _evaluation(settings.evaluation),
        ),
        ("confirmed", _confirmation(settings)),
    ]
    shown = [(start.label, str(start.schedule)) for start in starts]
    twins = dict.fromkeys(entry for entry in settings.warm_start if twin_row(entry) is not None)
    shown += [(str(twin), "depths come from `schedsearch compare`") for twin in twins]
    width = max((len(label) for label, _ in shown), default=0)
    rows += [
        ("warm start" if i == 0 else "", f"{label:<{width}}  {text}")
        for i, (label, text) in enumerate(shown)
    ]
    for title, text in rows:
        print(f"  {title:<10}  {text}")
    for hint in _hints(settings):
        print(f"hint: {hint}")
    _warn_of_classes(settings)
    return ExitCode.DONE


def _check_weights(settings: StudySettings) -> None:
    """Refuse weights that contradict the process, where their file can be read without torch."""
    from schedsearch.backbones.weights.claim_sources import claims_of_file
    from schedsearch.backbones.weights.claims import compare_claims
    from schedsearch.config.backbone_rules import shipped_family
    from schedsearch.config.checkpoint_paths import locate_weights

    backbone = settings.backbone
    if backbone.checkpoint is not None and shipped_family(backbone) is not None:
        claims = claims_of_file(locate_weights(backbone.checkpoint).path)
        compare_claims(claims, settings.diffusion)


def _check_storage(url: str) -> None:
    """Refuse a database that cannot be used now; for `run` it may only be down."""
    from schedsearch.exceptions import ConfigError, StorageError
    from schedsearch.search.study.storage_url import check_storage_answers, check_storage_url

    check_storage_url(url)
    try:
        check_storage_answers(url)
    except StorageError as error:
        raise ConfigError(str(error)) from error


def _hints(settings: StudySettings) -> Iterator[str]:
    """What is valid, but perhaps not meant."""
    from schedsearch.backbones.weights.sit_files import HINT, file_looks_like_sit
    from schedsearch.config.backbone_rules import shipped_family
    from schedsearch.config.checkpoint_paths import locate_weights

    backbone = settings.backbone
    if backbone.checkpoint is not None and shipped_family(backbone) == "dit":
        path = locate_weights(backbone.checkpoint).path
        if file_looks_like_sit(path):
            yield f"{path} {HINT}"
    trained, sampled = settings.diffusion.shift, settings.solver.shift
    if trained != sampled:
        yield (
            f"training times have the shift {trained:g}, the solver's {sampled:g}; fine-tuning "
            "covers the times that are sampled best where diffusion.shift is solver.shift"
        )


def _warn_of_classes(settings: StudySettings) -> None:
    """Warn of class folders that the network or the user may mean otherwise."""
    from schedsearch.config.backbone_rules import known_arguments
    from schedsearch.data.folder_listing import class_warnings

    if settings.data.source != "image_folder" or settings.data.path is None:
        return
    arguments = known_arguments(settings.backbone)
    num_classes = None if arguments is None else arguments.real_classes or None
    for text in class_warnings(Path(settings.data.path), num_classes):
        print(f"warning: {text}", file=sys.stderr)


def _profile(settings: StudySettings) -> str:
    profile = settings.profile
    if profile is None:
        return "none"
    return f"error table of {profile.num_images} images per cell"


def _recipe(settings: StudySettings) -> str:
    recipe = settings.recipe
    if recipe.weights == "shared":
        return f"{recipe.num_steps} steps once, on random schedules; all trials share the weights"
    return f"{recipe.num_steps} steps for every schedule"


def _budget(settings: StudySettings) -> str:
    budget = settings.search.budget
    limits = [f"{settings.search.n_trials} trials"]
    if budget.wall_clock is not None:
        limits.append(f"{budget.wall_clock:g} s")
    if budget.device_hours is not None:
        limits.append(f"{budget.device_hours:g} device-hours")
    return " or ".join(limits)


def _evaluation(evaluation: EvaluationSettings) -> str:
    return f"{evaluation.num_samples} samples, {evaluation.features} features"


def _process(diffusion: DiffusionSettings) -> str:
    if diffusion.process != "flow":
        return f"{diffusion.betas} betas, the network predicts {diffusion.prediction}"
    fed = {"sigma": "sigma", "sigma1000": "1000 sigma", "sit": "1 - sigma"}[str(diffusion.time)]
    velocity = "data - noise" if diffusion.time == "sit" else "noise - data"
    predicts = {"velocity": velocity, "x0": "the data", "eps": "the noise"}
    return (
        f"flow matching, the network is fed {fed} and predicts "
        f"{predicts[str(diffusion.prediction)]}; clock: 1000 sigma after the solver's shift; "
        f"training times: {diffusion.times}, shift {diffusion.shift:g}"
    )


def _solver(settings: StudySettings) -> str:
    solver = settings.solver
    shift = f", shift {solver.shift:g}" if settings.diffusion.process == "flow" else ""
    return f"{solver.name}, {solver.num_steps} steps{shift}"


def _confirmation(settings: StudySettings) -> str:
    evaluation = settings.evaluation
    if not evaluation.confirm_seeds:
        return "nothing"
    training = evaluation.confirm_training_seeds
    retrained = f", {training} training seeds for presets and their opponents" if training else ""
    auditor = f", auditor {evaluation.auditor}" if evaluation.auditor else ""
    return (
        f"{evaluation.confirm_seeds} held-out seeds of "
        f"{evaluation.confirm_samples_used} samples{retrained}{auditor}"
    )
