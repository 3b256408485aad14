"""The plan of a row: the best one within its target, by the calibrated table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.methods.plans.plan import map_name
from schedsearch.planning.plan_front import PlannedSteps, best_within, plan_front
from schedsearch.settings.plan import PlanTarget
from schedsearch.workers.plans.stage_files import (
    plan_digest,
    plan_folder,
    read_numbers,
    read_table,
)
from schedsearch.workers.plans.table import FITS, MAPS, Numbers, PlanTable
from schedsearch.workers.rivals.thresholds import Calibrated

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.workers.workbench import Workbench

PLAN_MAPS = "plan.safetensors"
"""Fitted numbers of a plan, beside its method file."""


def planned(bench: Workbench, folder: RunFolder, text: str, target: Path) -> Calibrated:
    """Choose the plan of a row and write its fitted numbers.

    Args:
        bench: Of the study.
        folder: The run folder, with the calibration.
        text: The row's target.
        target: The row's folder.

    Raises:
        StorageError: If there is no calibration.
    """
    wanted = PlanTarget.parse(text)
    num_steps = wanted.num_steps or bench.settings.solver.num_steps
    path = plan_folder(folder, num_steps)
    table = read_table(folder, path)
    if table is None or table.digest != plan_digest(bench, num_steps):
        raise StorageError(
            f"The row plan-{text} needs the calibration for {num_steps} steps, but {path} holds "
            "none: it failed. Mend the cause and run the same command again."
        )
    plan, note = choose(table, wanted, len(bench.solver.times))
    # Write what its steps need.
    steps = [
        table.step_of(index, choice.kind, choice.blocks, choice.age)
        for index, choice in enumerate(plan.steps)
    ]
    numbers = read_numbers(folder, [path / FITS, path / MAPS])
    maps = {
        map_name(index, step): numbers.of(index, step, plan.steps[index].age)
        for index, step in enumerate(steps)
        if step.is_fitted
    }
    weights = target / PLAN_MAPS if maps else None
    if weights is not None:
        Numbers(maps).write(weights)
    numbers_in_file: dict[str, Any] = {
        "steps": [str(step) for step in steps],
        "times": [round(t, 3) for t in bench.solver_with(num_steps).times],
    }
    if num_steps != bench.settings.solver.num_steps:
        numbers_in_file["full_steps"] = bench.settings.solver.num_steps
    return Calibrated(
        kind="plan",
        numbers=numbers_in_file,
        num_steps=num_steps,
        weights=weights,
        samples=table.samples,
        seconds=table.seconds,
        note=note,
    )


def choose(table: PlanTable, target: PlanTarget, num_calls: int) -> tuple[PlannedSteps, str]:
    """The plan of least error within a target, and a note if none is.

    Args:
        table: The calibration.
        target: A share of full depth's latency, or of its blocks.
        num_calls: Network calls of full depth, with the space's solver.
    """
    costs = table.latency_costs() if target.of == "latency" else table.block_costs()
    front = plan_front(table.errors(), costs)
    budget = target.share * (costs.fixed_ms + num_calls * costs.full_ms)
    found = best_within(front, budget)
    if found is not None:
        return found, ""
    share = front[0].ms / (costs.fixed_ms + num_calls * costs.full_ms)
    return front[0], (
        f"no plan reaches the target {target.share:g}: the cheapest takes {share:.2f} with a "
        f"residual at most {table.layout.max_age} steps old"
    )
