"""The steps of a plan and their text form; which plans a network and a solver refuse."""

import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.methods.plans.plan import Plan, map_name
from schedsearch.methods.plans.steps import FULL_STEP, PlanStep
from tests.methods.caches.cached_runs import NETS, TIMES
from tests.methods.plans.planned_runs import mixed_text, plan_of, steps_of

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("F", FULL_STEP),
        ("R0", PlanStep("reuse", 0)),
        ("R27", PlanStep("reuse", 27)),
        ("G5", PlanStep("reuse", 5, "diagonal")),
        ("M10", PlanStep("reuse", 10, "map")),
        ("X7", PlanStep("exit", 7)),
        ("A7", PlanStep("exit", 7, "map")),
    ],
)
def test_text_form(text, step):
    assert PlanStep.parse(text) == step
    assert str(step) == text
    assert step.is_fitted == (text[0] in "GMA")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f",
        "R",
        "F0",
        "F3",
        "r5",
        "R-1",
        "R05",
        "R5 ",
        " R5",
        "R5\n",
        "R1٣",
        "X1.0",
        "Q3",
        "FF",
    ],
)
def test_text_that_is_no_step(text):
    with pytest.raises(ValueError, match="a step is F, or R, G, M, X or A and its blocks, got"):
        PlanStep.parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exit", 3, "diagonal"), "no step is exit, diagonal, with 3 blocks"),
        (("full", 0, "map"), "no step is full, map, with 0 blocks"),
        (("skip", 1), "no step is skip, plain, with 1 blocks"),
        (("reuse", -1), "no step is reuse, plain, with -1 blocks"),
        (("full", 5), "leave out the blocks of a full step, got 5"),
    ],
)
def test_steps_without_a_text_form(arguments, message):
    with pytest.raises(ValueError, match=message):
        PlanStep(*arguments)


@pytest.mark.parametrize("text", ["", "R0", "X3 F", "A1"])
def test_the_first_step_runs_all_blocks(text):
    with pytest.raises(ConfigError, match="first step of a plan must be F"):
        plan_of(text, NETS["dit"])


@pytest.mark.parametrize("step", ["G1", "M1", "A1"])
def test_fitted_numbers_that_are_missing(step):
    with pytest.raises(ConfigError, match=f"Step 2 of the plan is {step}, but its fitted numbers"):
        Plan(
            steps_of(f"F F {step}"), {"step.1": torch.zeros(3, 32), "exit.2": torch.zeros(33, 32)}
        )


def test_names_of_fitted_numbers():
    assert map_name(4, PlanStep.parse("G2")) == map_name(4, PlanStep.parse("M7")) == "step.4"
    assert map_name(4, PlanStep.parse("A2")) == map_name(9, PlanStep.parse("A2")) == "exit.2"


def test_prefixes_that_a_full_step_must_cache():
    plan = plan_of("F R3 X2 G1 R3 F F A2 R0", NETS["dit"])
    assert [plan.prefixes(step) for step in (0, 5, 6, 8)] == [[1, 3], [], [0], []]


# ---- networks and solvers -----------------------------------------------------------------------


def begin(plan, net):
    return plan.begin(net, TIMES[: len(plan.steps)], guided=False)


@everywhere
@pytest.mark.parametrize("num_calls", [8, 10])
def test_another_number_of_network_calls(net, num_calls):
    plan = plan_of(mixed_text(net), net)
    with pytest.raises(
        ConfigError, match=rf"plan has 9 steps, but the solver makes {num_calls} network calls"
    ):
        plan.begin(net, range(num_calls), guided=False)


@pytest.mark.parametrize(
    ("name", "step", "lowest"),
    [
        ("dit", "R5", 0),
        ("dit", "G5", 0),
        ("dit", "A5", 0),
        ("dit", "X5", 1),
        ("dit", "X0", 1),
        ("uvit", "R9", 0),
        ("uvit", "A9", 0),
        ("uvit", "X4", 5),
        ("uvit", "X9", 5),
    ],
)
def test_blocks_out_of_range(name, step, lowest):
    net = NETS[name]
    message = rf"{step} of the plan must run {lowest} to {net.num_blocks - 1} of the network's"
    with pytest.raises(ConfigError, match=message):
        begin(plan_of(f"F {step}", net), net)


@pytest.mark.parametrize(
    ("name", "text"), [("dit", "F R0 R4 X1 X4 A0 A4"), ("uvit", "F R0 R8 X5 X8 A0 A8")]
)
def test_the_ends_of_the_ranges(name, text):
    begin(plan_of(text, NETS[name]), NETS[name])


@pytest.mark.parametrize(
    ("step", "shape", "expected"),
    [
        ("G1", (3, 24), (3, 32)),
        ("G1", (65, 32), (3, 32)),
        ("M1", (3, 32), (65, 32)),
        ("M1", (33, 32), (65, 32)),
        ("A1", (65, 32), (33, 32)),
        ("A1", (33, 24), (33, 32)),
        ("G1", (32,), (3, 32)),
    ],
)
def test_numbers_of_another_shape(step, shape, expected):
    numbers = torch.zeros(shape)
    plan = Plan(steps_of(f"F {step}"), {"step.1": numbers, "exit.1": numbers})
    with pytest.raises(ConfigError) as caught:
        begin(plan, NETS["dit"])
    assert str(caught.value) == (
        f"Step 1 of the plan is {step}, which needs numbers of shape {expected} in this network, "
        f"got {shape}. Plan again for this network."
    )


def test_a_network_without_stages():
    class Plain:
        num_exit_blocks = 5

    with pytest.raises(ConfigError, match=r"A plan runs the network block by block, but Plain"):
        begin(plan_of("F R0"), Plain())
