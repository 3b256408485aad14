"""Writes a finished schedule or method as a file, with or without its weights."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

from schedsearch.backbones.weights.checkpoint import fingerprint_of, read_whole
from schedsearch.exceptions import CheckpointError, ConfigError, NoResultError, StorageError
from schedsearch.files.atomic import replacing
from schedsearch.methods.loading import load_method
from schedsearch.methods.method_file import MethodFile, read_method_file, write_method_file
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.own_weights import check_own_weights
from schedsearch.runs.entry import FrontEntry
from schedsearch.runs.folder import METHOD_FILE, SCHEDULE_FILE, RunFolder
from schedsearch.runs.methods.entry import method_row
from schedsearch.runs.methods.results import MethodResults
from schedsearch.runs.results import RunResults
from schedsearch.schedules.schedule_file import (
    ScheduleFile,
    read_schedule_file,
    write_schedule_file,
)
from schedsearch.settings import SolverSettings, StudySettings


def export_schedule(
    folder: RunFolder,
    results: RunResults,
    entry: FrontEntry,
    output: Path,
    weights: Path | None,
) -> None:
    """Write a schedule file that says where its numbers come from.

    A trial with exit adapters becomes a method file, since a schedule file cannot hold them.

    Args:
        folder: The run folder.
        results: The run.
        entry: The schedule to export.
        output: Schedule file to write.
        weights: Where to copy the fine-tuned weights; None leaves them out.

    Raises:
        ConfigError: If the weights would not lie beside or below the schedule file, or are
            missing where exits run through adapters.
        StorageError: If the trial's files are gone.
    """
    own = folder.trial(entry.trial)
    kept: ScheduleFile | MethodFile
    if has_adapters(folder, entry.trial):
        path = own / METHOD_FILE
        kept = read_method_file(path, place_in(folder, path))
        if weights is None:
            raise ConfigError(
                f"The exits of trial {entry.trial} run through trained adapters, which lie in its "
                "weights; add --weights FILE.safetensors."
            )
    else:
        path = own / SCHEDULE_FILE
        kept = read_schedule_file(path, place_in(folder, path))
        if kept.schedule != entry.record.schedule:
            raise StorageError(
                f"{path} holds another schedule ({kept.schedule}) than its trial "
                f"({entry.record.schedule}). Restore the file from a backup."
            )
    source = folder.weights(entry.trial)
    if not source.is_file():
        raise StorageError(
            f"The weights of trial {entry.trial} should be in {source}, but they are gone. "
            "Restore the file, or choose another trial."
        )
    try:
        fingerprint = fingerprint_of(read_whole(source))
        check_own_weights(folder, source, entry.record.schedule)
    except CheckpointError as error:
        raise StorageError(str(error)) from error
    relative = None if weights is None else _copied(source, weights, output)
    name = entry.name or f"{results.settings.name}-trial-{entry.trial:04d}"
    measured, provenance = _measured(results, entry), _provenance(folder, results, entry)
    if isinstance(kept, MethodFile):
        # NOTE: a method file names the weights that its network was made from.
        pretrained = None if results.latency is None else results.latency.weights or None
        write_method_file(
            output,
            dataclasses.replace(
                kept,
                name=name,
                backbone=dataclasses.replace(kept.backbone, fingerprint=pretrained),
                measured=measured,
                provenance=provenance,
                weights=relative,
            ),
        )
        return
    write_schedule_file(
        output,
        ScheduleFile(
            name=name,
            backbone=dataclasses.replace(kept.backbone, fingerprint=fingerprint),
            depths=kept.depths,
            edges=kept.edges,
            clock=kept.clock,
            measured=measured,
            provenance=provenance,
            weights=relative,
        ),
    )


def has_adapters(folder: RunFolder, trial: int) -> bool:
    """Whether the exits of a trial run through adapters."""
    return (folder.trial(trial) / METHOD_FILE).is_file()


def export_method(folder: RunFolder, name: str, output: Path, weights: Path | None) -> None:
    """Write the method file of a row, with what was measured and where it comes from.

    Args:
        folder: The run folder.
        name: The row.
        output: Method file to write.
        weights: Where to copy its weights; needed where it has some.

    Raises:
        NoResultError: If there is no such row, or it has no latency yet.
        ConfigError: If the weights are needed, or would not lie beside or below the file.
        StorageError: If the row's files are gone.
    """
    results = MethodResults.load(folder)
    rows = {entry.name: entry for entry in results.entries}
    if name not in rows:
        known = ", ".join(rows) or "none; run `schedsearch compare` first"
        raise NoResultError(f"There is no measured method {name!r}; known are {known}.")
    path = folder.method(name) / METHOD_FILE
    if not path.is_file():
        raise StorageError(f"The file of {name} should be {path}, but it is gone. Restore it.")
    file = load_method(path, place_in(folder, path)).file
    relative = None
    if file.weights is not None:
        if weights is None:
            raise ConfigError(
                f"{name} does not work without its weights; add --weights FILE.safetensors."
            )
        relative = _copied(path.parent / file.weights, weights, output)
    record = rows[name].first
    measured = {
        **{key: v for key, v in method_row(rows[name], results.full()).items() if v is not None},
        "protocol": record.protocol,
        **(results.protocol["latency"] or {}),
        "calibration": record.note,
    }
    write_method_file(
        output,
        dataclasses.replace(
            file,
            weights=relative,
            measured={k: v for k, v in measured.items() if k not in ("name", "method", "note")},
            provenance={
                "study": results.run.settings.name,
                "space_sha256": hashlib.sha256(folder.space_file.read_bytes()).hexdigest(),
                "training_seed": record.training_seed,
                "versions": dict(record.versions),
            },
        ),
    )


def _copied(source: Path, weights: Path, output: Path) -> str:
    """Copy weights beside a file that names them, and return the name."""
    if not weights.resolve().is_relative_to(output.resolve().parent):
        raise ConfigError(
            f"A file names its weights relative to itself, so {weights} must lie in the folder "
            f"of {output} or below it."
        )
    with replacing(weights) as temporary:
        shutil.copyfile(source, temporary)
    return weights.resolve().relative_to(output.resolve().parent).as_posix()


def _measured(results: RunResults, entry: FrontEntry) -> dict[str, Any]:
    settings, latency = results.settings, results.latency
    protocol = {} if latency is None else dict(latency.table.get("protocol", {}))
    values: dict[str, Any] = {
        "fid": entry.fid,
        "kid": entry.evaluation.kid,
        "latency_ms": entry.latency.ms,
        "latency_source": entry.latency.source,
        "acceleration": entry.latency.acceleration,
        "num_samples": entry.evaluation.num_samples,
        "features": entry.evaluation.features,
        "solver": settings.solver.name,
        "num_steps": settings.solver.num_steps,
        "spacing": settings.solver.spacing if _has_timesteps(settings) else None,
        "cfg_scale": settings.solver.cfg_scale,
        **_changed_options(settings.solver),
        **settings.diffusion.to_dict(),
        "seed": settings.evaluation.seed,
        "device": protocol.get("device"),
        "dtype": protocol.get("dtype"),
        "compile": protocol.get("compile") or None,
        "threads": protocol.get("threads"),
        "batch": protocol.get("batch"),
    }
    if (held_out := entry.held_out_fid) is not None:
        seeds, num_samples = len(entry.confirmed), entry.confirmed[0].num_samples
        values["fid_held_out"] = held_out.mean
        values["fid_ci95"] = list(held_out.ci95)
        values["fid_ci95_over"] = f"{seeds} held-out evaluation seeds, n={num_samples}"
    return {key: value for key, value in values.items() if value is not None}


def _has_timesteps(settings: StudySettings) -> bool:
    """Whether the solver lays out timesteps; the others step uniformly in time or logSNR."""
    return settings.diffusion.process == "ddpm" and settings.solver.method != "singlestep"


def _changed_options(solver: SolverSettings) -> dict[str, Any]:
    """Options of the solver that differ from the defaults, by their keys."""
    given, defaults = dataclasses.asdict(solver), dataclasses.asdict(SolverSettings())
    return {key: value for key, value in given.items() if key != "name" and value != defaults[key]}


def _provenance(folder: RunFolder, results: RunResults, entry: FrontEntry) -> dict[str, Any]:
    shared = {}
    if results.settings.recipe.weights == "shared":
        shared = {"weights": "one file serves every schedule of this run but full depth"}
    return {
        **shared,
        "study": results.settings.name,
        "trial": entry.trial,
        "space_sha256": hashlib.sha256(folder.space_file.read_bytes()).hexdigest(),
        "seed": results.settings.search.seed,
        "versions": dict(entry.record.versions),
    }
