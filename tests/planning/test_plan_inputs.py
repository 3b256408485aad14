"""Tables of plans that are refused, each with the rule and the value."""

import math

import numpy as np
import pytest

from schedsearch.planning.plan_front import plan_front
from schedsearch.planning.plan_inputs import PlanCosts, PlanErrors, StepChoice


def test_a_reuse_needs_an_age_and_others_none():
    for kind, age in [("reuse", 0), ("reuse", -1), ("full", 1), ("exit", 2)]:
        with pytest.raises(ValueError, match="age"):
            StepChoice(kind=kind, blocks=1, age=age)


def errors_with(**changes) -> PlanErrors:
    fields = {
        "weights": np.ones(2),
        "reuse": np.ones((2, 3, 2)),
        "prefixes": (0, 1, 2),
        "exits": np.ones((2, 1)),
        "exit_depths": (1,),
    }
    return PlanErrors(**(fields | changes))


def costs_with(**changes) -> PlanCosts:
    fields = {
        "num_blocks": 4,
        "full_ms": 4.0,
        "reuse_ms": np.array([[1.0], [2.0], [3.0]]),
        "exit_ms": np.ones(1),
    }
    return PlanCosts(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.ones((2, 1))}, r"weights.*\(2, 1\)"),
        ({"weights": np.ones(0)}, r"weights.*\(0,\)"),
        ({"weights": np.array([1.0, np.nan])}, "weights.*nan"),
        ({"weights": np.array([1.0, np.inf])}, "weights.*inf"),
        ({"weights": np.array([1.0, -2.0])}, "weights.*-2"),
        ({"weights": np.ones(3)}, r"Reuse.*\(2, 3, 2\)"),
        ({"prefixes": (0, 1)}, r"Reuse.*\(2, 3, 2\)"),
        ({"reuse": np.ones((2, 3))}, r"Reuse.*\(2, 3\)"),
        ({"reuse": np.full((2, 3, 2), np.nan)}, "Reuse.*nan"),
        ({"reuse": np.full((2, 3, 2), -1.0)}, "Reuse.*-1"),
        ({"exits": np.ones((2, 2))}, r"Exit.*\(2, 2\)"),
        ({"exits": np.ones(2)}, r"Exit.*\(2,\)"),
        ({"exits": np.array([[1.0], [np.nan]])}, "Exit.*nan"),
        ({"exits": np.array([[1.0], [-np.inf]])}, "Exit.*-inf"),
    ],
)
def test_wrong_errors_name_the_rule_and_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        errors_with(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_blocks": 0}, "num_blocks=0"),
        ({"full_ms": math.nan}, "full_ms.*nan"),
        ({"full_ms": -1.0}, "full_ms.*-1"),
        ({"fixed_ms": math.inf}, "fixed_ms.*inf"),
        ({"reuse_ms": np.array([[1.0], [math.nan], [1.0]])}, "reuse_ms.*nan"),
        ({"exit_ms": np.array([-3.0])}, "exit_ms.*-3"),
    ],
)
def test_wrong_costs_name_the_rule_and_the_value(changes, message):
    with pytest.raises(ValueError, match=message):
        costs_with(**changes)


@pytest.mark.parametrize(
    ("errors", "costs", "message"),
    [
        ({}, {"reuse_ms": np.ones((2, 1))}, r"Costs of reuse must fit.*\(2, 1\)"),
        ({}, {"exit_ms": np.ones(2)}, r"Costs of exits must fit.*\(2,\)"),
        ({}, {"num_blocks": 2}, r"Prefixes.*0 to 1.*\(0, 1, 2\)"),
        ({"exit_depths": (4,)}, {}, r"Exit depths.*1 to 3.*\(4,\)"),
        ({"exit_depths": (0,)}, {}, r"Exit depths.*1 to 3.*\(0,\)"),
        ({"prefixes": (0, 2, 1)}, {}, r"Prefixes must increase.*\(0, 2, 1\)"),
        ({"prefixes": (0, 1, 1)}, {}, r"Prefixes must increase.*\(0, 1, 1\)"),
    ],
)
def test_errors_and_costs_that_do_not_fit_are_refused(errors, costs, message):
    with pytest.raises(ValueError, match=message):
        plan_front(errors_with(**errors), costs_with(**costs))
