"""Measures the costs of steps, by timing plans that repeat one kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from schedsearch.evaluation.latency_protocol import study_protocol
from schedsearch.evaluation.latency_table import LatencyTable
from schedsearch.evaluation.method_latency import TimedMethod, measure_methods
from schedsearch.exceptions import StorageError
from schedsearch.methods.plans.plan import Plan, map_name
from schedsearch.methods.plans.steps import FULL_STEP, PlanStep
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.workers.plans.table import StepCosts

if TYPE_CHECKING:
    from schedsearch.protocols import Solver, StagedBackbone
    from schedsearch.runs.folder import RunFolder
    from schedsearch.workers.workbench import Workbench


def measure_costs(
    bench: Workbench, folder: RunFolder, net: StagedBackbone, solver: Solver
) -> StepCosts:
    """Time sampling runs whose steps after the first are all of one kind.

    Args:
        bench: Of the study.
        folder: The run folder, with its latency table.
        net: The network.
        solver: The solver, with as many steps as the plans.

    Raises:
        StorageError: If the run has no latency table.
    """
    report = LatencyReport.load(folder)
    if report is None:
        raise StorageError(f"{folder.latency_file} is gone. Run the same command again.")
    table = LatencyTable.from_dict(report.table)
    num_calls, last = len(solver.times), net.num_blocks - 1
    middle = max(1, last // 2, net.num_blocks - net.num_exit_blocks)
    kinds = {
        "first": PlanStep("reuse", 0),
        "middle": PlanStep("reuse", middle),
        "last": PlanStep("reuse", last),
        "diagonal": PlanStep("reuse", 0, "diagonal"),
        "map": PlanStep("reuse", 0, "map"),
        "adapter": PlanStep("exit", middle, "map"),
    }
    protocol = study_protocol(bench.backbone, bench.settings)
    timed = {
        name: TimedMethod(net=net, method=_repeated(step, num_calls, net.width), solver=solver)
        for name, step in kinds.items()
    }
    measured = measure_methods(
        timed,
        bench.backbone,
        bench.solver,
        protocol,
        repeats=bench.settings.evaluation.latency_repeats,
    )
    # Convert runs to calls, in the units of the latency table.
    full_ms = table.a_ms + table.b_ms * net.num_exit_blocks
    whole_ms = table.c0_ms + len(bench.solver.times) * full_ms
    calls = {
        name: max(0.0, whole_ms * found.ratio - table.c0_ms - full_ms) / max(1, num_calls - 1)
        for name, found in measured.items()
    }
    return _fitted(calls, [0, middle, last], table.c0_ms, full_ms)


def _fitted(
    calls: Mapping[str, float], blocks: list[int], fixed_ms: float, full_ms: float
) -> StepCosts:
    """A line through the reused steps, and what the corrections add."""
    plain = [calls["first"], calls["middle"], calls["last"]]
    slope, start = np.polyfit(blocks, plain, 1).tolist()
    slope, start = max(0.0, slope), max(0.0, start)
    return StepCosts(
        fixed_ms=max(0.0, fixed_ms),
        full_ms=full_ms,
        reuse_ms=start,
        block_ms=slope,
        diagonal_ms=max(0.0, calls["diagonal"] - calls["first"]),
        map_ms=max(0.0, calls["map"] - calls["first"]),
        adapter_ms=max(0.0, calls["adapter"] - calls["middle"]),
    )


def _repeated(step: PlanStep, num_calls: int, width: int) -> Plan:
    """A plan of one full step and then one kind of step, with arbitrary numbers."""
    steps = (FULL_STEP, *[step] * (num_calls - 1))
    rows = {"plain": 0, "diagonal": 3, "map": 2 * width + 1}[step.fit]
    if step.kind == "exit":
        rows = width + 1
    numbers = torch.zeros(rows, width)
    maps = {map_name(index, step): numbers for index in range(1, num_calls)} if rows else {}
    return Plan(steps, maps)
