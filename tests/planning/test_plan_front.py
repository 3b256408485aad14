"""The front of plans against full enumeration, and hand-made tables with a known best plan."""

import math
import time

import numpy as np
import pytest
from made_up_plans import FULL, brute_front, tables

from schedsearch.planning import plan_front as module
from schedsearch.planning.plan_front import (
    PlannedSteps,
    best_within,
    plan_front,
)
from schedsearch.planning.plan_inputs import PlanCosts, PlanErrors, StepChoice


def assert_equal_brute_force(errors, costs):
    front = plan_front(errors, costs)
    assert [(plan.ms, plan.error, plan.steps) for plan in front] == [
        (ms, error, steps) for ms, error, _, steps in brute_front(errors, costs)
    ]


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_front_equals_brute_force_with_its_ties(seed, integers, monkeypatch):
    monkeypatch.setattr(module, "_BINS", (4096, 16)[seed % 2])  # 16: the filter drops candidates
    assert_equal_brute_force(*tables(np.random.default_rng(seed), integers=integers))


@pytest.mark.parametrize(
    "shape",
    [
        {"prefixes": 0},
        {"max_age": 0},
        {"exits": 0},
        {"exits": 0, "prefixes": 0},
        {"steps": 1},
        {"max_age": 4, "prefixes": 2, "exits": 1},
        {"max_age": 9, "prefixes": 1},
    ],
)
def test_front_equals_brute_force_with_empty_and_long_axes(shape):
    for seed in range(3):
        assert_equal_brute_force(*tables(np.random.default_rng(seed), **shape))


def test_exits_keep_the_cache_and_count_its_age():
    errors = PlanErrors(
        weights=np.ones(3),
        reuse=np.array([[[9.0, 9.0]], [[9.0, 9.0]], [[9.0, 1.0]]]),
        prefixes=(0,),
        exits=np.array([[9.0], [1.0], [9.0]]),
        exit_depths=(1,),
    )
    costs = PlanCosts(num_blocks=4, full_ms=4, reuse_ms=np.ones((1, 1)), exit_ms=np.ones(1))
    plan = best_within(plan_front(errors, costs), 6)
    assert plan == PlannedSteps(
        steps=(
            FULL,
            StepChoice(kind="exit", blocks=1),
            StepChoice(kind="reuse", blocks=0, age=2),
        ),
        error=2.0,
        ms=6.0,
    )


def test_reuse_of_age_one_gives_a_full_step_every_second_step():
    reuse = np.full((6, 2, 3), 50.0)
    reuse[:, 0, 0] = 0.1
    errors = PlanErrors(
        weights=np.ones(6),
        reuse=reuse,
        prefixes=(1, 2),
        exits=np.full((6, 1), 20.0),
        exit_depths=(2,),
    )
    costs = PlanCosts(
        num_blocks=4,
        full_ms=4,
        reuse_ms=np.array([[1.0], [2.0]]),
        exit_ms=np.array([2.0]),
        fixed_ms=0.5,
    )
    plan = best_within(plan_front(errors, costs), 3 * 4 + 3 * 1 + 0.5)
    assert plan is not None
    assert plan.steps == (FULL, StepChoice(kind="reuse", blocks=1, age=1)) * 3
    assert (plan.ms, plan.error) == (15.5, pytest.approx(0.3))


def test_weights_move_the_reuse_to_unimportant_steps():
    errors = PlanErrors(
        weights=np.array([1.0, 5.0, 1.0, 0.5]),
        reuse=np.ones((4, 1, 1)),
        prefixes=(0,),
        exits=np.empty((4, 0)),
        exit_depths=(),
    )
    costs = PlanCosts(num_blocks=4, full_ms=4, reuse_ms=np.ones((1, 1)), exit_ms=np.ones(0))
    kinds = [[step.kind for step in plan.steps] for plan in plan_front(errors, costs)]
    assert kinds == [
        ["full", "reuse", "full", "reuse"],
        ["full", "full", "full", "reuse"],
        ["full", "full", "full", "full"],
    ]


@pytest.mark.parametrize("max_age", [1, 2, 3])
def test_plans_of_a_longer_run_respect_the_age(max_age):
    rng = np.random.default_rng(max_age)
    front = plan_front(*tables(rng, steps=15, max_age=max_age))
    assert any(step.kind == "reuse" for plan in front for step in plan.steps)
    for plan in front:
        last_full = None
        for index, step in enumerate(plan.steps):
            if step.kind == "reuse":
                assert last_full is not None
                assert step.age == index - last_full <= max_age
            last_full = index if step.kind == "full" else last_full


def test_plans_report_the_error_and_cost_of_their_steps():
    errors, costs = tables(np.random.default_rng(3), steps=12)
    front = plan_front(errors, costs)
    for plan in front:
        error, ms = 0.0, costs.fixed_ms
        for index, step in enumerate(plan.steps):
            if step.kind == "full":
                ms += costs.full_ms
            elif step.kind == "reuse":
                column = errors.prefixes.index(step.blocks)
                error += errors.weights[index] * errors.reuse[index, column, step.age - 1]
                ms += costs.reuse_ms[index, column, step.age - 1]
            else:
                column = errors.exit_depths.index(step.blocks)
                error += errors.weights[index] * errors.exits[index, column]
                ms += costs.exit_ms[index, column]
        assert (plan.error, plan.ms) == (pytest.approx(error), pytest.approx(ms))
    assert (np.diff([plan.ms for plan in front]) > 0).all()
    assert (np.diff([plan.error for plan in front]) < 0).all()


def test_all_full_ends_the_front_unless_a_cheaper_plan_has_no_error():
    errors, costs = tables(np.random.default_rng(0))
    last = plan_front(errors, costs)[-1]
    assert (last.steps, last.error, last.ms) == ((FULL,) * 5, 0.0, 5 * 7 + 2)
    free = PlanErrors(
        weights=np.zeros(2),
        reuse=np.full((2, 1, 1), np.inf),
        prefixes=(0,),
        exits=np.ones((2, 1)),
        exit_depths=(1,),
    )
    only = plan_front(
        free, PlanCosts(num_blocks=4, full_ms=4, reuse_ms=np.ones((1, 1)), exit_ms=np.ones(1))
    )
    assert only == [
        PlannedSteps(steps=(StepChoice(kind="exit", blocks=1),) * 2, error=0.0, ms=2.0)
    ]


def test_rounding_of_sums_makes_no_points():
    # 0.1 + 0.3 and 0.2 + 0.2 differ in the last bit, as costs and as errors.
    errors = PlanErrors(
        weights=np.ones(12),
        reuse=np.empty((12, 0, 0)),
        prefixes=(),
        exits=np.tile([0.3, 0.2, 0.1], (12, 1)),
        exit_depths=(1, 2, 3),
    )
    costs = PlanCosts(
        num_blocks=4, full_ms=0.4, reuse_ms=np.ones((0, 1)), exit_ms=np.array([0.1, 0.2, 0.3])
    )
    front = plan_front(errors, costs)
    assert [plan.ms for plan in front] == pytest.approx([n / 10 for n in range(12, 49)])
    assert [plan.error for plan in front] == pytest.approx([n / 10 for n in range(36, -1, -1)])


def test_large_front_equals_a_dense_table_of_whole_costs():
    # 28 blocks, 50 steps: an independent dynamic program over whole milliseconds.
    rng = np.random.default_rng(0)
    S, L, A = 50, 28, 5
    age = np.arange(1, A + 1)
    errors = PlanErrors(
        weights=np.exp(rng.normal(size=S)),
        reuse=(1 - np.arange(L) / L)[:, None] ** 1.5 * age * rng.uniform(0.8, 1.2, (S, L, A)),
        prefixes=tuple(range(L)),
        exits=9 * (1 - np.arange(1, L) / L) ** 2 * rng.uniform(0.8, 1.2, (S, L - 1)),
        exit_depths=tuple(range(1, L)),
    )
    reuse_ms, exit_ms = tuple(range(2, L + 2)), tuple(range(2, L + 1))
    costs = PlanCosts(
        num_blocks=L,
        full_ms=L + 2,
        reuse_ms=np.array(reuse_ms, dtype=float)[:, None],
        exit_ms=np.array(exit_ms, dtype=float),
    )
    start = time.process_time()
    front = plan_front(errors, costs)
    print(f"{len(front)} plans in {time.process_time() - start:.2f} CPU-s")

    size = S * (L + 2) + 1
    best = np.full((A + 2, size), np.inf)  # forward: (age of the cache, ms so far)
    best[A + 1, 0] = 0.0
    for step in range(S):
        following = np.full_like(best, np.inf)
        for state in range(1, A + 2):
            options = [(1, L + 2, 0.0)]
            later = min(state + 1, A + 1)
            options += [(later, exit_ms[e], errors.exits[step, e]) for e in range(L - 1)]
            if state <= A:
                options += [
                    (later, reuse_ms[p], errors.reuse[step, p, state - 1]) for p in range(L)
                ]
            for target, ms, error in options:
                reached = best[state, :-ms] + errors.weights[step] * error
                np.minimum(following[target, ms:], reached, out=following[target, ms:])
        best = following
    lowest = best.min(axis=0)
    points = [
        (ms, lowest[ms]) for ms in range(size) if lowest[ms] < lowest[:ms].min(initial=np.inf)
    ]
    assert [plan.ms for plan in front] == [ms for ms, _ in points]
    assert [plan.error for plan in front] == pytest.approx([error for _, error in points])


def test_best_within_takes_the_lowest_error_of_a_budget():
    front = plan_front(*tables(np.random.default_rng(1)))
    for plan in front:
        assert best_within(front, plan.ms) is plan
        assert best_within(front, plan.ms * (1 - 1e-12)) is plan  # a rounding error
    assert best_within(front, (front[0].ms + front[1].ms) / 2) is front[0]
    assert best_within(front, math.inf) is front[-1]
    assert best_within(front, front[0].ms - 0.01) is None
    assert best_within(front, -math.inf) is None
    assert best_within([], 1.0) is None
    with pytest.raises(ValueError, match="nan"):
        best_within(front, math.nan)
