"""Exports a trial as a folder that diffusers' DiTPipeline loads."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import fingerprint, load_backbone_from
from schedsearch.backbones.weights.conversion import write_transformer
from schedsearch.config.backbone_rules import known_arguments, shipped_family
from schedsearch.config.checkpoint_paths import split_choice
from schedsearch.data.vae import CONFIG_FILE, WEIGHTS_FILE, LatentDecoder
from schedsearch.diffusion.diffusers_scheduler import diffusers_scheduler
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.atomic import replacing, replacing_folder, write_text
from schedsearch.files.content import as_path
from schedsearch.files.strict_json import load_json
from schedsearch.files.targets import check_new_folder
from schedsearch.runs.export import export_schedule, has_adapters
from schedsearch.runs.folder import SCHEDULE_FILE, RunFolder
from schedsearch.runs.model_card import model_card
from schedsearch.runs.results import RunResults
from schedsearch.schedules.schedule_file import read_schedule_file
from schedsearch.settings import StudySettings

NUM_CLASSES = 1000
"""DiTPipeline takes label 1000 for "no class"."""


def export_pipeline(run: str | Path, trial: int, folder: str | Path) -> None:
    """Write a trial as a diffusers pipeline: weights, scheduler, autoencoder, schedule, card.

    Only a DiT on latents with 1,000 classes can be written, which is what ``DiTPipeline`` holds.
    The folder's README.md shows how to load it: patch the time embedding, then enable
    ``schedule.yaml``. In float32 the samples are then those of the run, up to rounding
    (relative difference below 1e-4).

    Args:
        run: The run folder, or its name below ``runs/``.
        trial: Number of a complete trial.
        folder: Folder to write; it must not exist, or be empty.

    Raises:
        ConfigError: If a ``DiTPipeline`` cannot repeat the run, or the folder is not empty.
        NoResultError: If the trial has no complete result.
        StorageError: If the run is damaged, or the folder cannot be written.
    """
    # Check that a pipeline can hold it.
    source, target = RunFolder.existing(str(run)), as_path(folder).resolve()
    results = RunResults.load(source)
    entry, settings = results.require_entry(trial), results.settings
    check_new_folder(target)
    if (why := _why_not(settings)) is not None:
        raise ConfigError(
            f"diffusers' DiTPipeline holds a DiT on latents with {NUM_CLASSES} classes, but "
            f"{why}. Use `schedsearch export --weights` and schedsearch.sample instead."
        )
    if has_adapters(source, trial):
        raise ConfigError(
            f"The exits of trial {trial} run through trained adapters, which no diffusers class "
            "has. Search with recipe.start: plain, or use `schedsearch export`."
        )
    if settings.solver.cfg_interval is not None:
        raise ConfigError(
            "diffusers' DiTPipeline guides every step, but solver.cfg_interval is "
            f"{list(settings.solver.cfg_interval)}. Search with cfg_interval: null."
        )
    scheduler = diffusers_scheduler(settings.solver, settings.diffusion)
    vae = Path(str(settings.data.vae))
    decoder = LatentDecoder.load(vae)
    try:
        with replacing_folder(target) as new:
            # Write the schedule; this checks the trial's weights.
            export_schedule(source, results, entry, new / SCHEDULE_FILE, None)
            file = read_schedule_file(new / SCHEDULE_FILE)
            # Write the pipeline.
            weights = str(source.weights(trial))
            own = dataclasses.replace(settings.backbone, checkpoint=weights)
            net = load_backbone_from(own, "cpu")
            assert isinstance(net, DiT)
            (new / "transformer").mkdir()
            write_transformer(net, new / "transformer", file.name, fingerprint(net))
            scheduler.save_config(new / "scheduler")
            _copy_vae(vae, new / "vae")
            write_text(new / "model_index.json", _model_index(settings, scheduler))
            write_text(
                new / "README.md",
                model_card(results, entry, file, scheduler.config, decoder.sha256),
            )
    except OSError as error:
        raise StorageError(
            f"Cannot write {target}: {error}. Free space, or choose another folder."
        ) from error


def _why_not(settings: StudySettings) -> str | None:
    if (family := shipped_family(settings.backbone)) != "dit":
        return f"the backbone is {family or settings.backbone.family}"
    if settings.data.source != "latents" or settings.data.vae is None:
        return f"data.source is {settings.data.source}, without data.vae"
    arguments: Any = known_arguments(settings.backbone)
    if arguments.num_classes != NUM_CLASSES:
        return f"the backbone has {arguments.num_classes}"
    if not arguments.has_null_class:
        return 'the backbone has no label for "no class" (class_dropout_prob is 0)'
    return None


def _copy_vae(vae: Path, folder: Path) -> None:
    """Copy the autoencoder, without the path that its config may hold."""
    folder.mkdir()
    config = load_json((vae / CONFIG_FILE).read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
    with replacing(folder / WEIGHTS_FILE) as temporary:
        shutil.copyfile(vae / WEIGHTS_FILE, temporary)


def _model_index(settings: StudySettings, scheduler: Any) -> str:
    from diffusers import __version__

    index: dict[str, Any] = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": __version__,
        "scheduler": ["diffusers", type(scheduler).__name__],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if (labels := _class_names(settings)) is not None:
        index["id2label"] = labels
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def _class_names(settings: StudySettings) -> Any:
    """The names of the classes, where checkpoint or autoencoder lie in a DiTPipeline's folder."""
    given = (settings.backbone.checkpoint or "", settings.data.vae or "")
    paths = [path for path, _ in map(split_choice, given) if path.is_absolute()]
    for folder in (parent for path in paths for parent in (path, *path.parents[:2])):
        if not (folder / "model_index.json").is_file():
            continue
        try:
            index = load_json((folder / "model_index.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{folder / 'model_index.json'} is damaged: {error}.") from error
        if isinstance(index, dict) and index.get("id2label"):
            return index["id2label"]
    return None
