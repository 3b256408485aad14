"""Files of a calibration: every finished stage leaves one, so an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import write_text
from schedsearch.files.digest import sha256_of
from schedsearch.files.strict_json import check_numbers, to_document
from schedsearch.runs.checks.identity import place_in, read_own
from schedsearch.workers.plans.table import FITS, MAPS, TABLE, Numbers, PlanTable

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.workers.workbench import Workbench

ERRORS, WEIGHTS, COSTS, MAP_ERRORS = "errors.json", "weights.json", "costs.json", "map_errors.json"
"""Stages whose content is plain data."""

MARKER = "settings.sha256"
"""Digest of what the files were made from."""


def plan_folder(folder: RunFolder, num_steps: int) -> Path:
    """Where the calibration for a number of solver steps lies."""
    return folder.methods / "plans" / f"{num_steps}-steps"


def plan_digest(bench: Workbench, num_steps: int) -> str:
    """Digest of what a calibration depends on besides the run folder's space."""
    settings = bench.settings.plan
    assert settings is not None
    behind = {
        "num_steps": num_steps,
        "weights": fingerprint(bench.pretrained),
        **{k: getattr(settings, k) for k in ("fit_images", "table_images", "weight_images")},
        "max_age": settings.max_age,
    }
    return hashlib.sha256(json.dumps(behind, sort_keys=True).encode()).hexdigest()[:16]


class StageFiles:
    """What the stages of one calibration leave in their folder.

    Args:
        run: The run folder.
        path: The folder of the calibration.
        digest: Of all that a calibration depends on.

    Attributes:
        seconds: CPU-seconds of the stages so far, those of earlier starts included.
    """

    def __init__(self, run: RunFolder, path: Path, digest: str) -> None:
        self._run = run
        self.path = path
        self.digest = digest
        self.seconds = 0.0

    def start_over_if_other(self) -> None:
        """Drop what other settings or another network left."""
        marker = self.path / MARKER
        if marker.exists() and marker.read_text(encoding="utf-8") == self.digest:
            return
        for name in (TABLE, FITS, MAPS, ERRORS, WEIGHTS, COSTS, MAP_ERRORS):
            (self.path / name).unlink(missing_ok=True)
        write_text(marker, self.digest)

    def content(self, name: str, make: Callable[[], Any]) -> Any:
        """Plain data of a stage, made if its file is not there.

        Raises:
            StorageError: If the file is damaged.
        """
        path = self.path / name
        if path.exists():
            kept = _read(self._run, path)
        else:
            began = time.process_time()
            found = make()
            kept = {"content": found, "seconds": time.process_time() - began}
            write_text(path, to_document(kept, place_in(self._run, path)))
        self.seconds += kept["seconds"]
        return kept["content"]

    def numbers(self, name: str, make: Callable[[], Numbers]) -> Numbers:
        """Fitted numbers of a stage, made if their file is not there.

        Raises:
            StorageError: If a file is damaged.
        """
        path, about = self.path / name, self.path / f"{name}.json"
        if not (path.exists() and about.exists()):
            began = time.process_time()
            make().write(path)
            kept = {"seconds": time.process_time() - began, "sha256": sha256_of(path)}
            write_text(about, to_document(kept, place_in(self._run, about)))
        self.seconds += _read(self._run, about)["seconds"]
        return read_numbers(self._run, [path])


def read_table(run: RunFolder, folder: Path) -> PlanTable | None:
    """The table of a calibration; None where there is none.

    Raises:
        StorageError: If it is damaged, or of another run.
    """
    return PlanTable.read(folder, place_in(run, folder / TABLE))


def write_table(run: RunFolder, folder: Path, table: PlanTable) -> None:
    """Write the table of a calibration, which is its last file."""
    table.write(folder, place_in(run, folder / TABLE))


def read_numbers(run: RunFolder, paths: Sequence[Path]) -> Numbers:
    """Fitted numbers of some stages, as they were written.

    Raises:
        StorageError: If a file is damaged or gone, or of another run.
    """
    for path in paths:
        about = path.with_name(f"{path.name}.json")
        if _read(run, about).get("sha256") != sha256_of(path):
            raise StorageError(
                f"{path} does not match {about.name}. Delete its folder; it is made again."
            )
    return Numbers.read(paths)


def _read(run: RunFolder, path: Path) -> dict[str, Any]:
    """Content of a stage's file.

    Raises:
        StorageError: If it is damaged.
    """
    try:
        kept = read_own(run, path)
        check_numbers(kept["seconds"], "seconds", least=0)
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"Cannot read {path}: {str(error).rstrip('.')}. Delete its folder; it is made again."
        ) from error
    return kept
