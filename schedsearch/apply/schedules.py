"""Turns what a caller names into the exit schedule of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from schedsearch.apply.attachment import num_exit_blocks
from schedsearch.apply.clock import COUNTS, check_process
from schedsearch.backbones.layers import sincos_position_embedding
from schedsearch.backbones.weights.checkpoint import fingerprint_of
from schedsearch.backbones.weights.diffusers_dit import official_state
from schedsearch.exceptions import ConfigError, ScheduleError
from schedsearch.families.family import Family, ProcessKind
from schedsearch.files.content import as_path
from schedsearch.files.problems import Findings, ended, nearest_or_list
from schedsearch.files.strict_yaml import parse_document, read_limited
from schedsearch.schedules.argument import is_file
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, MOVED, preset_for, presets
from schedsearch.schedules.schedule_file import ScheduleFile, read_schedule_file

METHOD_SCHEMA = "schedsearch.method/"


def schedule_for(
    schedule: ExitSchedule | str | Path,
    model: nn.Module,
    family: Family,
    process: ProcessKind | None,
    *,
    strict: bool,
) -> ExitSchedule:
    """Return the schedule to run.

    Args:
        schedule: An exit schedule, the name of a preset (scaled to the model), or a file.
        model: The model.
        family: Its family.
        process: What its clock counts; None if unknown.
        strict: Whether the model needs the weights that a file was measured with.

    Raises:
        ConfigError: If there is no such schedule, or it does not fit the model.
    """
    num_blocks = num_exit_blocks(model, family)
    if isinstance(schedule, ExitSchedule):
        found = schedule
    elif isinstance(schedule, str) and schedule in (FULL, *presets):
        if process == "flow" and (moved := schedule + MOVED) in presets:
            raise ScheduleError(
                f"{schedule} is written for {COUNTS['ddpm']}, but the model is fed "
                f"{COUNTS['flow']}. Use {moved}."
            )
        found = preset_for(schedule, num_blocks)
    elif isinstance(schedule, str | Path):
        found = _from_file(as_path(schedule), model, family, num_blocks, strict)
    else:
        raise ConfigError(
            f"enable takes an exit schedule, a preset or a schedule file, got "
            f"{type(schedule).__name__}. Run other methods with schedsearch.sample."
        )
    check_process(found, process)
    _check_depths(found, model, family, num_blocks)
    return found


def _from_file(
    path: Path, model: nn.Module, family: Family, num_blocks: int, strict: bool
) -> ExitSchedule:
    if not is_file(str(path)):
        known = nearest_or_list(path, [FULL, *presets])
        raise ConfigError(f"There is no schedule file or preset {str(path)!r}; {ended(known)}")
    _refuse_method(path)
    file = read_schedule_file(path)
    theirs = file.backbone
    if theirs.family not in family.schedule_families:
        raise ScheduleError(
            f"{path}: the schedule is for the family {theirs.family}, but the model is a "
            f"{family.class_name} ({' or '.join(family.schedule_families)}). Use a schedule found "
            "for this model, or a preset."
        )
    if theirs.num_exit_blocks != num_blocks:
        raise ScheduleError(
            f"{path}: the schedule is for {theirs.num_exit_blocks} blocks (model: {num_blocks}). "
            "Presets scale, files do not; use a schedule found for this model."
        )
    if strict and theirs.fingerprint is not None:
        _check_weights(path, file, model, family)
    return file.schedule


def _refuse_method(path: Path) -> None:
    data = parse_document(read_limited(path), Findings(str(path))).data
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, str) and schema.startswith(METHOD_SCHEMA):
        raise ConfigError(
            f"{path} is a method file: what it needs besides exits (adapters, caches, other "
            "steps) cannot be applied to a pipeline. Run it with `schedsearch sample --method`, "
            "or export a trial without adapters."
        )


def _check_weights(path: Path, file: ScheduleFile, model: nn.Module, family: Family) -> None:
    try:
        found = _fingerprint(model, family)
    except (NotImplementedError, RuntimeError) as error:
        # NOTE: offloaded weights lie on the meta device
        found = f"unreadable ({error})".splitlines()[0]
    if found == file.backbone.fingerprint:
        return
    weights = f"Load {file.weights} into the model" if file.weights else "Load those weights"
    raise ScheduleError(
        f"{path}: the schedule was measured with the weights {file.backbone.fingerprint}, but the "
        f"model's are {found}. {weights}, or set strict=False to apply it anyway."
    )


def _fingerprint(model: nn.Module, family: Family) -> str:
    """Fingerprint of the weights in the layout that schedule files speak of."""
    state = model.state_dict()
    if family.class_name != "DiTTransformer2DModel":
        return fingerprint_of(state)
    official = official_state(state, Path("the model"))
    if "pos_embed" not in official:
        config: Any = model.config
        grid, width = (
            config.sample_size // config.patch_size,
            len(official["x_embedder.proj.bias"]),
        )
        official["pos_embed"] = sincos_position_embedding(width, grid)[None]
    return fingerprint_of(official)


def _check_depths(
    schedule: ExitSchedule, model: nn.Module, family: Family, num_blocks: int
) -> None:
    low, high = min(schedule.depths), max(schedule.depths)
    if high > num_blocks:
        raise ScheduleError(
            f"The schedule runs {high} blocks (model: {num_blocks}). Use a schedule found for "
            "this model, or scale it with schedsearch.schedules.hand_made.scale_schedule."
        )
    fewest = family.min_depth
    if family.min_depth_attribute is not None:
        fewest = max(fewest, getattr(model, family.min_depth_attribute, fewest))
    if low < fewest:
        raise ScheduleError(
            f"The schedule runs {low} blocks, but this {family.class_name} runs at least "
            f"{fewest}. Use a deeper schedule."
        )
