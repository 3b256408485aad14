"""Schedules of a finished run, fine-tuned and measured anew; rows are kept in a file."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, cast

from torch import nn

from benchmarks.schedulebench.rows import Row
from benchmarks.study_identity import identity_of
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.config import dump_settings, settings_from_text
from schedsearch.exceptions import (
    ConfigError,
    ExitCode,
    NoResultError,
    SchedSearchError,
    StorageError,
)
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.journal import Journal
from schedsearch.runs.profile_files import TunedExits
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.failures import DISK_STAGE
from schedsearch.workers.jobs import ProfileJob
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.profile import run_profile
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.workbench import open_workbench

AUDITOR = "audit_features"
"""Key of a row: the auditor's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One schedule, fine-tuned with one training seed."""

    depths: tuple[int, ...]
    num_steps: int
    training_seed: int
    evaluation_seeds: tuple[int, ...]
    num_samples: int
    start: Literal["pretrained", "shared"] = "pretrained"
    """``shared``: weights of a shared fine-tune with this training seed, done first."""
    exits: TunedExits = "schedules"
    """Of the shared fine-tune."""

    @property
    def key(self) -> str:
        """What tells rows apart."""
        named = asdict(self)
        # As in rows of the time before there was a choice.
        if self.start == "pretrained":
            del named["start"]
        if self.exits == "schedules":
            del named["exits"]
        return json.dumps(named)


def tune_shared(training_seed: int, exits: TunedExits, run: Path) -> None:
    """The run's shared fine-tune with another seed; kept in the run for all jobs of the seed."""
    folder = _folder_of_seed(training_seed, run)
    folder.root.mkdir(parents=True, exist_ok=True)
    settings = settings_from_text(RunFolder(run).space_file.read_text(encoding="utf-8"))
    settings = dataclasses.replace(
        settings, search=dataclasses.replace(settings.search, seed=training_seed)
    )
    job = ProfileJob(exits=exits, settings=dump_settings(settings), run_dir=str(folder.root))
    with folder.locked():
        outcome = run_profile(job)
    if "error" in outcome:
        kind = StorageError if outcome.get("stage") == DISK_STAGE else NoResultError
        raise kind(
            f"The shared fine-tune with seed {training_seed} failed: {outcome['error']} Its log "
            f"is {folder.shown}/profile/{exits}/log.txt; mend the cause and run the same command "
            "again."
        )


def _folder_of_seed(training_seed: int, run: Path) -> RunFolder:
    return RunFolder(run / "retraining" / f"seed-{training_seed}")


def measure(job: Job, run: Path) -> dict[str, Any]:
    """Fine-tune and measure, by the study's auditor too; plain data, for a process pool."""
    folder = RunFolder(run)
    text = folder.space_file.read_text(encoding="utf-8")
    bench = open_workbench(text, str(folder.reference))
    schedule = ExitSchedule(job.depths)
    started = time.perf_counter()
    start = bench.fresh_backbone()
    if job.start == "shared":
        shared = _folder_of_seed(job.training_seed, run).shared_weights(job.exits)
        load_weights(cast(nn.Module, start), shared)
    with tempfile.TemporaryDirectory() as scratch:
        net = load_trainer(bench.settings.trainer).finetune(
            start,
            ScheduleExits(schedule),
            bench.source,
            bench.process,
            dataclasses.replace(bench.settings.recipe, num_steps=job.num_steps),
            FileProgress(Path(scratch), save_every=10**9, resume_from=None),
            job.training_seed,
        )
    fine_tuned = time.perf_counter()
    qualities = [
        bench.measure(net, schedule, seed=seed, num_samples=job.num_samples, auditor=bench.auditor)
        for seed in job.evaluation_seeds
    ]
    found = {
        "key": job.key,
        "fids": [quality.fid for quality in qualities],
        "features": bench.extractor.name,
        "finetune_seconds": round(fine_tuned - started, 2),
        "measure_seconds": round(time.perf_counter() - fine_tuned, 2),
    }
    if bench.auditor is not None:
        found["audit_fids"] = [quality.audit_fid for quality in qualities]
        found[AUDITOR] = bench.auditor.extractor.name
    return found


def identity_of_run(run: Path) -> dict[str, str]:
    """Study, pretrained weights and auditor of a run, which all of its rows must share.

    Raises:
        ConfigError: If weights, data, extractor or auditor cannot be loaded.
    """
    folder = RunFolder(run)
    bench = open_workbench(folder.space_file.read_text(encoding="utf-8"), str(folder.reference))
    identity = identity_of(bench.settings, cast(nn.Module, bench.backbone))
    if bench.auditor is not None:
        identity[AUDITOR] = bench.auditor.extractor.name
    return identity


def measure_all(jobs: Iterable[Job], run: Path, rows: Path, processes: int) -> dict[str, Any]:
    """Rows by key: what the file holds, and what is missing, measured now.

    Args:
        jobs: What is wanted.
        run: Folder of the run.
        rows: File of the rows; a row is on the disk before the next one is waited for, and a
            line that a stop tore is measured again.
        processes: To measure in.

    Raises:
        ConfigError: If the file holds rows of another study, auditor or of other weights.
        StorageError: If it is damaged or cannot be written.
    """
    identity = identity_of_run(run)
    journal = Journal(rows, Row.from_json)
    journal.repair()
    known: dict[str, Any] = {}
    for row in journal.read():
        found = {AUDITOR: identity.get(AUDITOR), **row.values}  # older rows were not audited
        if differing := [name for name in identity if found.get(name) != identity[name]]:
            raise ConfigError(
                f"{rows} must hold rows of this run's study, weights and auditor only, but "
                f"differs in {' and '.join(differing)}; name another --rows."
            )
        known[row.key] = row.values
    missing = [job for job in dict.fromkeys(jobs) if job.key not in known]
    print(f"{len(missing)} fine-tunes to do, {len(known)} known", file=sys.stderr)
    shared = dict.fromkeys((j.training_seed, j.exits) for j in missing if j.start == "shared")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(tune_shared, *which, run) for which in shared]:
            future.result()
        futures = [pool.submit(measure, job, run) for job in missing]
        for future in as_completed(futures):
            row = Row({**future.result(), **identity})
            known[row.key] = row.values
            journal.append(row)
            print(f"{len(known)}: {row.key} {row.values['fids']}", file=sys.stderr)
    return known


def exit_code_of(command: Callable[[], None]) -> int:
    """Run a command; an error of the tool becomes one line and its exit code."""
    try:
        command()
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    return int(ExitCode.DONE)
