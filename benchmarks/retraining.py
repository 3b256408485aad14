"""Schedules of a finished run, fine-tuned and measured anew; rows are kept in a file."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from schedsearch.backbones.checkpoint import load_weights
from schedsearch.exit_rules import ScheduleExits
from schedsearch.schedule import ExitSchedule
from schedsearch.search.loading import load_trainer
from schedsearch.search.progress import FileProgress
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One schedule, fine-tuned with one training seed."""

    depths: tuple[int, ...]
    num_steps: int
    training_seed: int
    evaluation_seeds: tuple[int, ...]
    num_samples: int

    @property
    def key(self) -> str:
        """What tells rows apart."""
        return json.dumps(asdict(self))


def measure(job: Job, run: Path) -> dict[str, Any]:
    """Fine-tune and measure; plain data, for a process pool."""
    folder = RunFolder(run)
    text = folder.space_file.read_text(encoding="utf-8")
    bench = open_workbench(text, str(folder.reference))
    schedule = ExitSchedule(job.depths)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        net = load_trainer(bench.settings.trainer).finetune(
            starting_backbone(folder, bench),
            ScheduleExits(schedule),
            bench.source,
            bench.process,
            dataclasses.replace(bench.settings.recipe, num_steps=job.num_steps),
            FileProgress(Path(scratch), save_every=10**9, resume_from=None),
            job.training_seed,
        )
    fine_tuned = time.perf_counter()
    qualities = [
        bench.measure(net, schedule, seed=seed, num_samples=job.num_samples)
        for seed in job.evaluation_seeds
    ]
    return {
        "job": job.key,
        "fids": [quality.fid for quality in qualities],
        "features": bench.extractor.name,
        "finetune_seconds": round(fine_tuned - started, 2),
        "measure_seconds": round(time.perf_counter() - fine_tuned, 2),
    }


def starting_backbone(folder: RunFolder, bench: Workbench) -> Backbone:
    """The weights that the trials of the run started from."""
    net = bench.fresh_backbone()
    profile = bench.settings.profile
    if profile is not None and profile.start == "shared":
        load_weights(cast(nn.Module, net), folder.shared_weights("schedules"))
    return net


def measure_all(jobs: Iterable[Job], run: Path, rows: Path, processes: int) -> dict[str, Any]:
    """Rows by key: what the file holds, and what is missing, measured now."""
    known: dict[str, Any] = {}
    if rows.exists():
        for line in rows.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            known[row["job"]] = row
    missing = [job for job in dict.fromkeys(jobs) if job.key not in known]
    print(f"{len(missing)} fine-tunes to do, {len(known)} known", file=sys.stderr)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(measure, job, run) for job in missing]
        for future in as_completed(futures):
            row = future.result()
            known[row["job"]] = row
            with rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{len(known)}: {row['job']} {row['fids']}", file=sys.stderr)
    return known
