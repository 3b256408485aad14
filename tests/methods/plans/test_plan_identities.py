"""Plans that equal something else: full depth, exit schedules, residual caches, a rule by hand."""

import copy

import pytest
import torch

from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.methods.plans.plan import Plan, map_name
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.methods.caches.cached_runs import NETS, TIMES, sample, sample_plain
from tests.methods.plans.planned_runs import (
    NETS_WITH_VARIANCE,
    head,
    inputs_of,
    mixed_text,
    plain_numbers,
    plan_of,
    relative_close,
    residual_of,
    steps_of,
    tokens_after,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
guided_or_not = pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
both_solvers = pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])


@both_solvers
@guided_or_not
@pytest.mark.parametrize("net", NETS_WITH_VARIANCE.values(), ids=NETS_WITH_VARIANCE)
def test_a_plan_of_full_steps_is_full_depth(net, cfg_scale, solver):
    options = {"cfg_scale": cfg_scale, "solver": solver}
    found, run = sample(plan_of("F " * len(TIMES)), net, **options)
    assert torch.equal(found, sample_plain(net, **options))
    assert run.peak_bytes == 0


@everywhere
def test_full_depth_in_half_precision(net):
    half = copy.deepcopy(net).to(torch.bfloat16)
    found, _ = sample(plan_of("F " * len(TIMES)), half, cfg_scale=2.0)
    assert torch.equal(found, sample_plain(half, cfg_scale=2.0))


@both_solvers
@guided_or_not
@pytest.mark.parametrize(("name", "depths"), [("dit", (5, 3, 1, 4, 2)), ("uvit", (4, 2, 0, 3, 1))])
def test_plain_exits_are_an_exit_schedule(name, depths, cfg_scale, solver):
    net = NETS[name]
    schedule = ExitSchedule((1,) * 5 + depths[::-1])  # from data to noise
    before_exits = net.num_blocks - net.num_exit_blocks
    calls = [schedule.depth_at(time) for time in TIMES]
    assert set(calls) == set(depths)
    text = " ".join(
        "F" if depth == net.num_exit_blocks else f"X{before_exits + depth}" for depth in calls
    )
    options = {"cfg_scale": cfg_scale, "solver": solver}
    found, run = sample(plan_of(text), net, **options)
    assert torch.equal(found, sample(schedule, net, **options)[0])
    assert [int(blocks[0]) for blocks in run.blocks] == [before_exits + depth for depth in calls]
    assert run.peak_bytes == 0


@both_solvers
@guided_or_not
@pytest.mark.parametrize("first", [0, 2, "last"])
@everywhere
def test_reuse_at_every_second_step_is_a_residual_cache(net, first, cfg_scale, solver):
    first = net.num_blocks - 1 if first == "last" else first
    options = {"cfg_scale": cfg_scale, "solver": solver}
    expected, cache = sample(ResidualCache(first=first, signal="steps", every=2), net, **options)
    found, run = sample(plan_of(f"F R{first} F R{first} F R{first} F R{first} F"), net, **options)
    assert torch.equal(found, expected)
    assert all(map(torch.equal, run.blocks, cache.blocks))
    assert not torch.equal(found, sample_plain(net, **options))


@pytest.mark.parametrize("fitted", ["G", "M"])
@everywhere
def test_numbers_of_plain_reuse(net, fitted):
    plain = "F R0 R2 F R1 R0 F R0 R0"
    steps = steps_of(plain.replace("R", fitted))
    maps = {
        map_name(step, choice): plain_numbers(choice, net.width)
        for step, choice in enumerate(steps)
        if choice.is_fitted
    }
    found, _ = sample(Plan(steps, maps), net, cfg_scale=2.0)
    relative_close(found, sample(plan_of(plain), net, cfg_scale=2.0)[0], 1e-6)


@everywhere
def test_an_adapter_that_changes_nothing_goes_straight_to_the_head(net):
    last = net.num_blocks - 1
    steps = steps_of(f"F A{last}")
    plan = Plan(steps, {f"exit.{last}": plain_numbers(steps[1], net.width)})
    run = plan.begin(net, TIMES[:2], guided=False)
    for step, inputs in enumerate(inputs_of(net)[:2]):
        with torch.no_grad():
            found = run(*inputs, clock=TIMES[step], step=step)
    tokens = tokens_after(net, inputs, last)
    relative_close(found, head(net, tokens, tokens.h), 1e-6)
    if net is NETS["dit"]:  # a plain exit of the U-ViT merges its last skip first
        relative_close(found, net(*inputs, exit_depth=last), 1e-6)


# ---- a rule by hand -----------------------------------------------------------------------------


@torch.no_grad()
def by_hand(net, plan, calls, step):
    """The prediction of one step, from the inputs of all calls."""
    choice, inputs = plan.steps[step], calls[step]
    if choice.kind == "full":
        return net(*inputs, exit_depth=net.num_exit_blocks)
    tokens = tokens_after(net, inputs, choice.blocks)
    numbers, h, width = plan.maps.get(map_name(step, choice)), tokens.h, net.width
    if choice.kind == "exit" and not choice.is_fitted:
        return net(*inputs, exit_depth=choice.blocks - net.num_blocks + net.num_exit_blocks)
    if choice.kind == "exit":
        return head(net, tokens, h @ numbers[:width] + numbers[width])
    last_full = max(s for s in range(step) if plan.steps[s].kind == "full")
    residual = residual_of(net, calls[last_full], choice.blocks)
    if choice.fit == "plain":
        return head(net, tokens, h + residual)
    if choice.fit == "diagonal":
        return head(net, tokens, h * numbers[0] + residual * numbers[1] + numbers[2])
    both = torch.cat([h, residual], dim=-1)
    return head(net, tokens, both @ numbers[: 2 * width] + numbers[2 * width])


@guided_or_not
@pytest.mark.parametrize("net", NETS_WITH_VARIANCE.values(), ids=NETS_WITH_VARIANCE)
def test_every_kind_of_step(net, cfg_scale):
    plan, calls = plan_of(mixed_text(net), net), inputs_of(net, cfg_scale=cfg_scale)
    run = plan.begin(net, TIMES, guided=cfg_scale != 1)
    for step, inputs in enumerate(calls):
        with torch.no_grad():
            found = run(*inputs, clock=TIMES[step], step=step)
        assert found.shape[1] == net.in_shape[0] * (2 if net.learn_sigma else 1)
        relative_close(found, by_hand(net, plan, calls, step), 1e-5)
