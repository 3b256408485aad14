"""Fine-tunes the network of a case and measures its rows, in a worker process."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.paper_analyses.cases import Case, Depths, Measurement, Tuning
from benchmarks.paper_analyses.networks import OneInterval, PerInterval, Quiet
from schedsearch.backbones.guidance import learns_variance
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.protocols import Backbone, ExitRule, NoiseProcess
from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.workbench import Workbench, open_workbench

FIRST_EVALUATION_SEED = 1000
"""Far from the seeds that chose the project's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement of one replicate."""

    key: str
    """Of the measurement."""
    replicate: int
    """Seed of the fine-tune."""
    evaluation_seed: int
    fid: float
    audit_fid: float
    """FID (digits MLP) of the same images."""
    kid: float
    sample_std: float
    """Pixel standard deviation of the samples."""
    class_accuracy: float | None
    blocks: float
    """Blocks that the solver's steps run, as a share of full depth's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one worker."""

    rows: tuple[Row, ...]
    seconds: float
    """CPU-seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One case with one training seed, as plain data for a worker."""

    case: Case
    replicate: int
    evaluations: int
    num_samples: int
    settings: str
    """Text of the resolved search space."""
    reference_dir: str

    @property
    def evaluation_seeds(self) -> range:
        """Seeds that no other replicate has."""
        first = FIRST_EVALUATION_SEED + self.replicate * self.evaluations
        return range(first, first + self.evaluations)


def run_job(job: Job) -> Outcome:
    """Fine-tune once, then measure every row of the case."""
    started = time.process_time()
    bench = open_workbench(job.settings, job.reference_dir)
    net = tuned_network(job.case.tuning, bench, job.replicate)
    rows = [
        _measured(measurement, net, bench, job, seed)
        for measurement in job.case.measurements
        for seed in job.evaluation_seeds
    ]
    return Outcome(rows=tuple(rows), seconds=time.process_time() - started)


def tuned_network(tuning: Tuning, bench: Workbench, seed: int) -> Backbone:
    """The network of a case."""
    if tuning.kind == "pretrained":
        return bench.backbone
    if tuning.kind != "experts":
        return _finetuned(tuning, bench, seed, bench.process)
    diffusion = bench.settings.diffusion
    num = len(_depths(tuning))
    return cast(
        Backbone,
        PerInterval(
            [
                _finetuned(
                    tuning,
                    bench,
                    seed,
                    OneInterval(interval, num, diffusion.betas, diffusion.prediction),
                )
                for interval in range(num)
            ]
        ),
    )


def _finetuned(tuning: Tuning, bench: Workbench, seed: int, process: NoiseProcess) -> Backbone:
    recipe = dataclasses.replace(
        bench.settings.recipe,
        num_steps=tuning.num_steps,
        lambda_weighting=tuning.lambda_weighting,
        ema_decay=tuning.ema_decay,
    )
    return load_trainer(bench.settings.trainer).finetune(
        bench.fresh_backbone(),
        _exits(tuning, bench),
        bench.source,
        process,
        recipe,
        Quiet(),
        seed,
    )


def _exits(tuning: Tuning, bench: Workbench) -> ExitRule:
    space = bench.settings.space
    if tuning.kind == "uniform exits":
        return UniformExits(space.min_depth, space.max_depth)
    if tuning.kind == "random schedules":
        return RandomScheduleExits(space.build())
    return ScheduleExits(ExitSchedule(_depths(tuning)))


class UniformExits:
    """Each sample exits at a depth drawn uniformly from [min_depth, max_depth]."""

    edges = None

    def __init__(self, min_depth: int, max_depth: int) -> None:
        self._min_depth, self._max_depth = min_depth, max_depth

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Exit depths, (N,) int64, whatever the times."""
        low, high = self._min_depth, self._max_depth + 1
        return torch.randint(low, high, t.shape, generator=generator).to(t.device)


def _depths(tuning: Tuning) -> Depths:
    if tuning.depths is None:
        raise ValueError(f"A tuning of kind '{tuning.kind}' needs depths.")
    return tuning.depths


def _measured(
    measurement: Measurement, net: Backbone, bench: Workbench, job: Job, seed: int
) -> Row:
    schedule = ExitSchedule(measurement.depths)
    solver_settings = dataclasses.replace(
        measurement.solver,
        cfg_scale=bench.settings.solver.cfg_scale,
        cfg_channels=bench.settings.solver.cfg_channels,
    )
    solver = build_solver(
        solver_settings,
        build_process(bench.settings.diffusion),
        learned_variance=learns_variance(bench.pretrained),
    )
    settings = dataclasses.replace(bench.settings, solver=solver_settings)
    bench = dataclasses.replace(bench, settings=settings, solver=solver)
    if measurement.tuned_interval is not None:
        nets: list[Any] = [bench.backbone] * schedule.num_intervals
        nets[measurement.tuned_interval] = net
        net = cast(Backbone, PerInterval(nets))
    quality = bench.measure(
        net, schedule, seed=seed, num_samples=job.num_samples, auditor=bench.auditor
    )
    if quality.audit_fid is None:
        raise ValueError("The analyses need evaluation.auditor.")
    visited = schedule.visited(solver.times)
    return Row(
        key=measurement.key,
        replicate=job.replicate,
        evaluation_seed=seed,
        fid=quality.fid,
        audit_fid=quality.audit_fid,
        kid=quality.kid,
        sample_std=quality.sample_std,
        class_accuracy=quality.class_accuracy,
        blocks=sum(visited) / (len(visited) * net.num_exit_blocks),
    )
