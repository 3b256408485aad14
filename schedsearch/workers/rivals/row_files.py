"""Files of a row of a comparison: its folder, its method file, its weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.registry import family_of
from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.files.atomic import replacing
from schedsearch.files.digest import sha256_of
from schedsearch.methods.method_file import MethodFile
from schedsearch.schedules.schedule_file import ScheduledBackbone

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.workers.rivals.thresholds import Calibrated
    from schedsearch.workers.workbench import Workbench

METHOD = "method.yaml"
"""A row's method file, in its folder."""


def row_folder(folder: RunFolder, name: str, training_seed: int | None, bench: Workbench) -> Path:
    """Folder of a row; the first training seed has the row's own."""
    first = bench.settings.search.seed
    return folder.method(name, None if training_seed in (None, first) else training_seed)


def method_file_of(
    bench: Workbench,
    name: str,
    found: Calibrated,
    structure: Mapping[str, Any],
    weights: Path | None,
) -> MethodFile:
    """The method file of a row.

    Args:
        bench: Of the study.
        name: The row.
        found: Its numbers.
        structure: How its network differs from the backbone.
        weights: File in the row's folder, if it has one.
    """
    bound = found.num_steps is not None
    return MethodFile(
        name=name,
        kind=cast(Any, found.kind),
        backbone=ScheduledBackbone(
            family=family_of(bench.settings.backbone),
            num_exit_blocks=bench.backbone.num_exit_blocks,
            fingerprint=fingerprint(bench.pretrained),
        ),
        solver=bench.settings.solver.name if bound else None,
        num_steps=found.num_steps,
        numbers=found.numbers,
        network=structure,
        weights=None if weights is None else weights.name,
        weights_sha256=None if weights is None else sha256_of(weights),
    )


def link_file(source: Path, target: Path) -> None:
    """Put the same file into another folder, without a copy where the disk can."""
    try:
        with replacing(target) as temporary:
            temporary.unlink(missing_ok=True)
            temporary.hardlink_to(source)
    except OSError:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
