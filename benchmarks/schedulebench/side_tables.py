"""Beside the rows: latency table, error tables and what everything costs, in CPU seconds.

CPU seconds of one thread, because other work on the machine stretches wall time.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schedsearch.config import dump_settings
from schedsearch.evaluation.latency_protocol import latency_protocol
from schedsearch.evaluation.latency_table import measure_table
from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import write_text
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import EvaluationSettings, ProfileSettings, StudySettings
from schedsearch.workers.jobs import ProfileJob
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.profile import run_profile
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.workbench import Workbench, open_workbench

FILE = "side_tables.json"
LATENCY_REPEATS = 15
"""More than in a run, since one table serves all replays."""
CHARGED_REPEATS = EvaluationSettings().latency_repeats
"""The default of a run, which a proposer is charged for."""
COST_TRIALS = 5
"""Schedules, evenly spaced by blocks, whose evaluation is timed."""


@dataclass(frozen=True)
class Variant:
    """One error table to measure.

    Args:
        key: Its name in the packed table.
        num_steps: Steps on random schedules before it; 0 takes the weights as they are.
    """

    key: str
    num_steps: int


def make_side_tables(
    folder: Path,
    settings: StudySettings,
    variants: Sequence[Variant],
    schedules: Sequence[tuple[int, ...]],
    *,
    fine_tunes: bool,
    note: Callable[[str], None],
) -> None:
    """Measure what is missing; what lies in the folder is kept.

    Args:
        folder: Of the rows.
        settings: The study of the table.
        variants: The error tables.
        schedules: All schedules of the table.
        fine_tunes: Whether each schedule is fine-tuned, which is then part of a trial's cost.
        note: Takes a line of progress.
    """
    path = folder / FILE
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    bench = open_workbench(dump_settings(settings), str(folder / "reference"))
    steps: dict[str, Callable[[], Any]] = {
        "costs": lambda: _trial_costs(bench, schedules, folder, fine_tunes=fine_tunes),
        "latency": lambda: _latency(bench),
        **{
            _name(v): lambda v=v: _errors(folder, settings, v)  # type: ignore[misc]
            for v in variants
        },
    }
    for name, measure in steps.items():
        if name not in kept:
            started = time.process_time()
            kept[name] = measure()
            note(f"{name}: {time.process_time() - started:.1f} CPU s")
            write_text(path, json.dumps(kept, indent=1) + "\n")


def read_side_tables(
    folder: Path, levels: Sequence[int], variants: Sequence[Variant]
) -> dict[str, Any]:
    """What :func:`make_side_tables` wrote, as arguments of ``Table``.

    The charge for latency is the share of the measurement that the product would have made:
    its cost is proportional to the repeats.

    Args:
        folder: Of the rows.
        levels: Columns to take from the error tables.
        variants: The error tables to take, in this order.

    Raises:
        ConfigError: If not all has been measured.
    """
    path = folder / FILE
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    wanted = ["costs", "latency", *(_name(variant) for variant in variants)]
    if missing := [name for name in wanted if name not in kept]:
        raise ConfigError(
            f"{path} must hold {', '.join(wanted)}, but lacks {', '.join(missing)}; run the "
            "command `tables` on this folder."
        )
    latency = kept["latency"]
    share = CHARGED_REPEATS / latency["table"]["repeats"]
    return {
        "latency_table": latency["table"],
        "costs": {**kept["costs"], "latency": latency["cpu_seconds"] * share},
        "error_tables": {
            variant.key: _columns(ErrorTable.from_dict(kept[_name(variant)]), levels)
            for variant in variants
        },
    }


def _name(variant: Variant) -> str:
    """Of an error table in the file."""
    return f"errors/{variant.key}"


def _columns(table: ErrorTable, levels: Sequence[int]) -> ErrorTable:
    """The columns of the levels, numbered 1..L."""
    places = [table.depths.index(level) for level in levels]
    return dataclasses.replace(
        table,
        depths=tuple(range(1, len(levels) + 1)),
        losses=tuple(tuple(row[p] for p in places) for row in table.losses),
        standard_errors=tuple(tuple(row[p] for p in places) for row in table.standard_errors),
    )


def _trial_costs(
    bench: Workbench, schedules: Sequence[tuple[int, ...]], folder: Path, *, fine_tunes: bool
) -> dict[str, float]:
    """Mean CPU seconds of a fine-tune and of one evaluation, over evenly spaced schedules."""
    ordered = sorted(schedules, key=sum)
    last = len(ordered) - 1
    chosen = [ordered[last * k // (COST_TRIALS - 1)] for k in range(COST_TRIALS)]
    tuning = sampling = 0.0
    evaluation, net = bench.settings.evaluation, bench.backbone
    # Imports and the statistics of the real images are no trial's.
    bench.measure(net, ExitSchedule(chosen[0]), seed=0, num_samples=evaluation.batch_size)
    trainer = load_trainer(bench.settings.trainer)
    for depths in chosen:
        schedule = ExitSchedule(depths)
        if fine_tunes:
            started = time.process_time()
            net = trainer.finetune(
                bench.fresh_backbone(),
                ScheduleExits(schedule),
                bench.source,
                bench.process,
                bench.settings.recipe,
                FileProgress(folder, save_every=2**31),
                bench.settings.search.seed,
            )
            tuning += time.process_time() - started
        started = time.process_time()
        bench.measure(net, schedule, seed=0, num_samples=evaluation.num_samples)
        sampling += time.process_time() - started
    tuning, sampling = tuning / len(chosen), sampling / len(chosen)
    return {"fine_tune": tuning, "sample": sampling, "trial": tuning + sampling}


def _latency(bench: Workbench) -> dict[str, Any]:
    settings, net = bench.settings, bench.backbone
    started = time.process_time()
    table = measure_table(
        net,
        bench.solver,
        latency_protocol(net, settings.solver, settings.evaluation, 1),
        repeats=LATENCY_REPEATS,
        min_depth=settings.space.min_depth,
    )
    return {"table": table.to_dict(), "cpu_seconds": time.process_time() - started}


def _errors(folder: Path, settings: StudySettings, variant: Variant) -> dict[str, Any]:
    """By the worker of the product, in this process; ``seconds`` become CPU seconds.

    What an earlier stop left is deleted, since continuing it would cost nothing.
    """
    run_dir = folder / f"profile-{variant.key}"
    shutil.rmtree(run_dir, ignore_errors=True)
    weights: Literal["own", "shared"] = "shared" if variant.num_steps else "own"
    recipe = dataclasses.replace(settings.recipe, num_steps=variant.num_steps, weights=weights)
    settings = dataclasses.replace(settings, recipe=recipe, profile=ProfileSettings())
    started = time.process_time()
    table = run_profile(ProfileJob(settings=dump_settings(settings), run_dir=str(run_dir)))
    seconds = time.process_time() - started
    assert table is not None  # the settings have a section profile
    return dataclasses.asdict(dataclasses.replace(table, seconds=round(seconds, 2)))
