"""What a driver costs: by finished trials, and by simulated workers.

    python -m benchmarks.driver
    python -m benchmarks.driver --trials 100 2000 --workers 1000

Everything is the driver's own (study, database, journal, front files, messages), but trials are
made up: each takes 35 to 55 simulated seconds. Seconds of the driver are CPU-seconds; waits for
the disk are not in them. The space is that of DiT-XL/2, with a made-up error table.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import optuna
from rich.console import Console

from schedsearch.config import settings_from_text
from schedsearch.files.checksums import sealed
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.seeds import seed_schedules
from schedsearch.proposers.registry import build_sampler
from schedsearch.records import Evaluation, TrialRecord, TrialState
from schedsearch.report.live import RunView
from schedsearch.runs.checks.journals import trial_journal
from schedsearch.runs.costs import TRIALS, Costs
from schedsearch.runs.folder import SCHEDULE_FILE, RunFolder
from schedsearch.runs.front_files import write_front
from schedsearch.runs.results import RunResults, hypervolume_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.dashboard import TrialPublisher
from schedsearch.search.meter import Meter, Metered, Throttled
from schedsearch.search.study.owner import open_own_study
from schedsearch.search.study.storage import open_artifacts
from schedsearch.search.study.study import ScheduleStudy
from schedsearch.settings import StudySettings
from schedsearch.workers.jobs import Done, TrialJob

TRIALS_DONE = (100, 500, 1000, 2000, 10_000, 50_000)
WORKERS = (1, 8, 64, 1000)
TRIAL_SECONDS = (35.0, 55.0)
VISITS = (5,) * 10
"""Network calls per interval of a solver with 50 steps."""

NUM_PROPOSALS = 10
"""Proposals behind a mean."""

PICTURE = bytes(20_000)
"""Stands for the samples of a trial, which the driver copies for the dashboard."""

Answer = TypeVar("Answer")


class Clock:
    """Simulated time, which the driver's CPU time moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._began: float | None = None

    def __call__(self) -> float:
        """Seconds now, also in the middle of a step."""
        return self.now + (0.0 if self._began is None else time.process_time() - self._began)

    def step(self, function: Callable[[], Answer]) -> tuple[Answer, float]:
        """Let the driver do something; returns its answer and its CPU-seconds."""
        self._began = time.process_time()
        answer = function()
        seconds = time.process_time() - self._began
        self._began, self.now = None, self.now + seconds
        return answer, seconds


class SimulatedRun:
    """A driver on a run folder, without networks.

    Args:
        root: The run folder.
        n_trials: Trials wanted.
        clock: Simulated time.
    """

    def __init__(self, root: Path, n_trials: int, clock: Clock) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = RunFolder(root)
        self.folder.create()
        self.settings = settings_with(n_trials)
        self.space = self.settings.space.build()
        self.journal = trial_journal(self.folder, self.settings)
        study = open_own_study(self.folder, self.settings)
        console = Console(file=self.folder.log_file.open("a"), width=200)
        self.study = ScheduleStudy(
            study,
            settings=self.settings,
            settings_text="",
            folder=self.folder,
            journal=self.journal,
            warm_starts=[],
            times=np.linspace(999.0, 0.0, sum(VISITS)).tolist(),
            predict_ms=latency_of,
            latency_device="cpu",
            publisher=TrialPublisher(study, open_artifacts(self.folder), self.folder),
            observer=RunView(console, hypervolume_of),
            on_result=Throttled(self._write_front, clock),
        )
        meter = Meter(self.folder, self.settings, Costs.load(self.folder), clock=clock)
        self.source = Metered(self.study, meter, TRIALS, within_budget=True)

    def begin(self) -> None:
        """Do what a start does before the first proposal."""
        self.study.prepare()
        table = error_table(self.settings)
        self.study.proposals.use_sampler(
            build_sampler(
                self.settings.search.sampler,
                self.space,
                self.settings.search.seed,
                VISITS,
                fixed_blocks=1.0,
                num_asked=len(self.study.proposals.trials()),
                error_table=table,
            )
        )
        seeds = seed_schedules(table, self.space, VISITS, self.settings.search.dp_seeds)
        self.study.enqueue_first(seeds)

    def next_job(self) -> TrialJob:
        """The next job, which there is."""
        job = self.source.next_job()
        assert isinstance(job, TrialJob)
        return job

    def leave_files(self, job: TrialJob) -> None:
        """Write what a worker leaves for the dashboard."""
        folder = self.folder.trial(job.number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCHEDULE_FILE).write_text(str(job.schedule))
        (folder / "samples.png").write_bytes(PICTURE)

    def _write_front(self) -> None:
        results = RunResults(self.settings, self.study.finished.records, None, [])
        write_front(results.front(), self.folder)


def settings_with(n_trials: int) -> StudySettings:
    """The space of DiT-XL/2 with a number of trials."""
    text = (files("search_spaces") / "dit_xl2_imagenet256.yaml").read_text(encoding="utf-8")
    settings = settings_from_text(text)
    return dataclasses.replace(
        settings, search=dataclasses.replace(settings.search, n_trials=n_trials)
    )


def latency_of(schedule: ExitSchedule) -> float:
    """Latency in ms: one per block, and a little more."""
    return 10.0 + float(sum(schedule.depths))


def error_table(settings: StudySettings) -> ErrorTable:
    """A smooth error table of the space."""
    space = settings.space
    depths = tuple(range(space.min_depth, space.max_depth + 1))
    missing = 1.0 - np.array(depths) / space.max_depth
    losses = 0.1 + 0.1 * np.linspace(1.0, 0.1, space.num_intervals)[:, None] * missing**1.5
    return ErrorTable(
        depths=depths,
        losses=tuple(map(tuple, losses.tolist())),
        standard_errors=((0.001,) * len(depths),) * space.num_intervals,
        exits="pretrained",
        num_steps=0,
        num_images=1,
        seed=0,
        seconds=1.0,
    )


def record_of(number: int, schedule: ExitSchedule, settings: StudySettings) -> TrialRecord:
    """A made-up result: FID grows with missing blocks, with 3 % of noise."""
    missing = 1.0 - np.array(schedule.depths) / settings.space.max_depth
    noise = np.random.default_rng([1, *schedule.depths]).normal()
    loss = float(np.linspace(1.0, 0.1, len(missing)) @ missing**2) / 3
    evaluation = Evaluation(
        fid=float(8.0 * np.exp(loss + 0.03 * noise)),
        kid=0.01,
        latency_ms=latency_of(schedule),
        latency_source="predicted",
        nfe=sum(VISITS),
        num_samples=settings.evaluation.num_samples,
        features="made up",
        protocol="0123456789abcdef",
        sample_std=0.5,
        reference_std=0.5,
    )
    return TrialRecord(
        number=number,
        depths=schedule.depths,
        state=TrialState.COMPLETE,
        evaluation=evaluation,
        started="2026-01-01T00:00:00+00:00",
        seconds=55.0,
        worker="made up",
    )


def make_run(root: Path, num_done: int) -> None:
    """Write the folder of a run with finished trials, and its study."""
    clock = Clock()
    run = SimulatedRun(root, num_done + 1, clock)
    rng, seen = np.random.default_rng(0), dict[ExitSchedule, None]()
    while len(seen) < num_done:
        seen[run.space.sample(rng)] = None
    lines = [sealed(record_of(i, s, run.settings).to_json()) for i, s in enumerate(seen)]
    run.folder.results_file.write_text("".join(f"{line}\n" for line in lines))
    run.study.prepare()


def measure_trials(num_done: int, root: Path) -> str:
    """Row of the first table; the run is there already."""
    clock = Clock()

    def resume() -> tuple[SimulatedRun, TrialJob]:
        run = SimulatedRun(root, num_done + 2 * NUM_PROPOSALS, clock)
        run.begin()
        return run, run.next_job()

    (run, job), resumed = clock.step(resume)
    asked, told = [], []
    for _ in range(NUM_PROPOSALS):
        run.leave_files(job)
        outcome = Done(result=record_of(job.number, job.schedule, run.settings))
        told.append(
            clock.step(lambda job=job, outcome=outcome: run.source.finish(job, outcome))[1]
        )
        job, seconds = clock.step(run.next_job)
        asked.append(seconds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {num_done:,} | {np.mean(asked):.3f} | {max(asked):.3f} | {np.median(told):.3f} "
        f"| {resumed:.1f} | {memory:.0f} |"
    )


def measure_workers(num_workers: int, num_trials: int, root: Path) -> str:
    """Row of the second table: a run from its first trial on."""
    clock = Clock()
    run = SimulatedRun(root, num_trials + num_workers, clock)
    run.begin()
    minutes, idle, busy = simulate(run, num_workers, num_trials, clock)
    return (
        f"| {num_workers:,} | {num_trials:,} | {num_trials / minutes:,.0f} | {idle:.2%} "
        f"| {1000 * busy / num_trials:.1f} |"
    )


def simulate(
    run: SimulatedRun, num_workers: int, num_trials: int, clock: Clock
) -> tuple[float, float, float]:
    """Let simulated workers do trials.

    Returns:
        Minutes until the last one ended; idle share of the workers; CPU-seconds of the driver.
    """
    rng = np.random.default_rng(0)
    free, busy = deque([0.0] * num_workers), list[tuple[float, int, TrialJob]]()
    clock.now, idle, spent = 0.0, 0.0, 0.0
    for _ in range(num_trials):
        while free:
            job, seconds = clock.step(run.next_job)
            idle, spent = idle + clock.now - free.popleft(), spent + seconds
            heapq.heappush(busy, (clock.now + rng.uniform(*TRIAL_SECONDS), job.number, job))
        ended, _, job = heapq.heappop(busy)
        clock.now = max(clock.now, ended)
        run.leave_files(job)
        outcome = Done(result=record_of(job.number, job.schedule, run.settings))
        _, seconds = clock.step(lambda job=job, outcome=outcome: run.source.finish(job, outcome))
        spent += seconds
        free.append(ended)
    waiting = [*free, *(ended for ended, _, _ in busy if ended < clock.now)]
    idle += sum(clock.now - since for since in waiting)
    return clock.now / 60, idle / (num_workers * clock.now), spent


def rows(trials: Sequence[int], workers: Sequence[int], num_trials: int | None) -> Iterator[str]:
    """Lines of both tables, each measured in a new process."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        if trials:
            yield (
                "| finished trials | CPU-s per proposal | slowest | CPU-s per result "
                "| CPU-s to resume | memory, MB |"
            )
            yield "|---|---|---|---|---|---|"
        for num_done in trials:
            root = Path(folder) / f"trials{num_done}"
            pool.submit(make_run, root, num_done).result()
            yield pool.submit(measure_trials, num_done, root).result()
        if workers:
            yield "\n| workers | trials | trials a minute | idle | CPU-ms per trial |"
            yield "|---|---|---|---|---|"
        for num_workers in workers:
            root = Path(folder) / f"workers{num_workers}"
            count = num_trials or max(2 * num_workers, 200)
            yield pool.submit(measure_workers, num_workers, count, root).result()


def build_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.driver",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, nargs="*", default=TRIALS_DONE)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument(
        "--num-trials", type=int, help="trials per number of workers (default: two each, or 200)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    args = build_parser().parse_args(argv)
    for line in rows(args.trials, args.workers, args.num_trials):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
