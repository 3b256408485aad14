"""The table of a calibration: which fit counts, what it costs, and its file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schedsearch.exceptions import StorageError
from schedsearch.methods.plans.recording import Layout
from schedsearch.methods.plans.steps import PlanStep
from schedsearch.planning.plan_front import plan_front
from schedsearch.settings.plan import PlanTarget
from schedsearch.workers.plans.choice import choose
from schedsearch.workers.plans.table import TABLE, PlanTable, StepCosts, median_weights

COSTS = StepCosts(
    fixed_ms=2.0,
    full_ms=10.0,
    reuse_ms=1.0,
    block_ms=2.0,
    diagonal_ms=0.25,
    map_ms=0.5,
    adapter_ms=0.125,
)
TABLE_OF_THREE = PlanTable(
    digest="x",
    num_steps=3,
    num_blocks=4,
    layout=Layout(prefixes=(0, 2), exits=(1,), max_age=1),
    weights=(0.0, 1.0, 2.0),
    reuse={
        (1, 0, 1): {"plain": 4.0, "diagonal": 2.0, "map": 1.0},
        (1, 2, 1): {"plain": 1.0, "diagonal": 1.5},
        (2, 0, 1): {"plain": 4.0, "diagonal": 2.0, "map": 1.1},
        (2, 2, 1): {"plain": 0.5, "diagonal": 0.5},
    },
    exits={(s, 1): {"plain": 9.0, "map": 3.0 + s} for s in range(3)},
    costs=COSTS,
    seconds=1.0,
    samples=3,
)


def test_a_map_counts_where_it_halves_the_error() -> None:
    assert TABLE_OF_THREE.best_reuse((1, 0, 1)) == ("map", 1.0)
    assert TABLE_OF_THREE.best_reuse((2, 0, 1)) == ("diagonal", 2.0)
    assert TABLE_OF_THREE.best_reuse((1, 2, 1)) == ("plain", 1.0)
    assert TABLE_OF_THREE.best_exit(1, 1) == ("map", 4.0)


@pytest.mark.parametrize(
    ("step", "ms"),
    [
        (PlanStep("full"), 10.0),
        (PlanStep("reuse", 0), 1.0),
        (PlanStep("reuse", 2, "diagonal"), 5.25),
        (PlanStep("reuse", 0, "map"), 1.5),
        (PlanStep("exit", 1, "map"), 3.125),
    ],
)
def test_a_step_costs_its_blocks_and_its_correction(step: PlanStep, ms: float) -> None:
    assert COSTS.of(step) == ms


def test_the_program_gets_errors_and_costs_of_the_same_fits() -> None:
    errors, costs = TABLE_OF_THREE.errors(), TABLE_OF_THREE.latency_costs()
    assert errors.reuse[1].tolist() == [[1.0], [1.0]]
    assert errors.reuse[2].tolist() == [[2.0], [0.5]]
    assert np.isinf(errors.reuse[0]).all()
    assert np.isinf(errors.exits[0]).all(), "the first step always runs all blocks"
    assert costs.reuse_ms[:, :, 0].tolist() == [[0.0, 0.0], [1.5, 5.0], [1.25, 5.0]]
    assert (costs.full_ms, costs.fixed_ms) == (10.0, 2.0)
    blocks = TABLE_OF_THREE.block_costs()
    assert (blocks.full_ms, blocks.fixed_ms) == (4, 0.0)
    assert blocks.reuse_ms[1, :, 0].tolist() == [0, 2]


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8])
@pytest.mark.parametrize("of", ["latency", "blocks"])
def test_the_choice_is_the_best_plan_within_its_share(share: float, of: str) -> None:
    target = PlanTarget(share, of)  # type: ignore[arg-type]
    found, note = choose(TABLE_OF_THREE, target, 3)
    latency = of == "latency"
    costs = TABLE_OF_THREE.latency_costs() if latency else TABLE_OF_THREE.block_costs()
    budget = share * (costs.fixed_ms + 3 * costs.full_ms)
    within = [p for p in plan_front(TABLE_OF_THREE.errors(), costs) if p.ms <= budget]
    assert found == min(within, key=lambda plan: plan.error)
    assert note == ""


def test_a_share_out_of_reach_says_so() -> None:
    cheapest, note = choose(TABLE_OF_THREE, PlanTarget(0.1), 3)
    assert cheapest == plan_front(TABLE_OF_THREE.errors(), TABLE_OF_THREE.latency_costs())[0]
    assert note.startswith("no plan reaches the target 0.1: the cheapest takes ")


def test_the_file_gives_the_table_back(tmp_path: Path) -> None:
    assert PlanTable.read(tmp_path) is None
    TABLE_OF_THREE.write(tmp_path)
    assert PlanTable.read(tmp_path) == TABLE_OF_THREE


@pytest.mark.parametrize("content", ["{", "{}", '{"layout": 3}'])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / TABLE).write_text(content)
    with pytest.raises(StorageError, match="Delete the folder; it is made again"):
        PlanTable.read(tmp_path)


def test_step_weights_are_medians_over_images() -> None:
    assert median_weights(torch.tensor([[1.0, 2.0, 900.0], [3.0, 3.0, 3.0]])) == (2.0, 3.0)


def test_a_heavier_step_is_run_in_full_first() -> None:
    heavy = replace(TABLE_OF_THREE, weights=(0.0, 100.0, 1.0))
    found, _ = choose(heavy, PlanTarget(0.75), 3)
    assert [step.kind for step in found.steps] == ["full", "full", "reuse"]
