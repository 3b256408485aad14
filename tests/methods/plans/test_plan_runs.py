"""Sampling runs of plans: images, state, and the account of blocks and bytes."""

import copy
import itertools
import pickle

import pytest
import torch

from schedsearch.protocols import ObservedCall
from tests.methods.caches.cached_runs import (
    NETS,
    TIMES,
    denoiser,
    sample,
    sample_plain,
    trajectory,
    watch,
)
from tests.methods.plans.planned_runs import (
    NETS_WITH_VARIANCE,
    mixed_text,
    plan_of,
    relative_close,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def mixed(net):
    return plan_of(mixed_text(net), net)


# ---- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])
@everywhere
def test_images(net, solver, cfg_scale, num):
    options = {"num": num, "cfg_scale": cfg_scale, "solver": solver}
    images, run = sample(mixed(net), net, **options)
    assert images.shape == (num, *net.in_shape)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert not images.requires_grad
    assert torch.equal(sample(mixed(net), net, **options)[0], images)
    assert not torch.equal(sample_plain(net, **options), images)
    assert isinstance(run, ObservedCall)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_a_learned_variance_reaches_the_solver(cfg_scale):
    net, options = NETS_WITH_VARIANCE["learned variance"], {"cfg_scale": cfg_scale}
    full, _ = sample(plan_of("F " * len(TIMES)), net, solver="learned_ddpm", **options)
    assert torch.equal(full, sample_plain(net, solver="learned_ddpm", **options))
    images, _ = sample(mixed(net), net, solver="learned_ddpm", **options)
    assert images.isfinite().all()
    assert not torch.equal(images, sample(mixed(net), net, solver="ddpm", **options)[0])


@pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])
@everywhere
def test_an_image_does_not_depend_on_its_batch(net, solver):
    options = {"solver": solver, "cfg_scale": 2.0}
    images, _ = sample(mixed(net), net, num=5, **options)
    for num in (1, 2):
        few, _ = sample(mixed(net), net, num=num, **options)
        relative_close(few, images[:num], 1e-5)


@everywhere
def test_half_precision(net):
    half = copy.deepcopy(net).to(torch.bfloat16)
    started = denoiser(mixed(net), half, 4, cfg_scale=2.0)
    x = torch.randn(4, *net.in_shape)
    with torch.no_grad():
        for time in TIMES:
            found = started(x, time)
            assert found.dtype == x.dtype
            assert found.isfinite().all()
            assert {tensor.dtype for tensor in started.call.held()} <= {torch.bfloat16}


# ---- state --------------------------------------------------------------------------------------


@everywhere
def test_interleaved_runs_equal_runs_in_sequence(net):
    plan = mixed(net)
    with torch.no_grad():
        alone = [list(trajectory(plan, net, seed)) for seed in (1, 2)]
        # The second runs one step behind.
        both = itertools.zip_longest(
            trajectory(plan, net, 1), itertools.chain([None], trajectory(plan, net, 2))
        )
        first, second = zip(*both, strict=True)
    for expected, found in zip(alone, (first[:-1], second[1:]), strict=True):
        assert all(map(torch.equal, expected, found))
    assert not torch.equal(alone[0][-1], alone[1][-1])


@everywhere
def test_a_run_sees_nothing_of_another(net):
    plan = mixed(net)
    maps, weights = copy.deepcopy(plan.maps), copy.deepcopy(net.state_dict())
    expected, _ = sample(plan, net)
    with torch.no_grad():  # a run broken off in mid-way
        broken = trajectory(plan, net, seed=9)
        for _ in range(4):
            next(broken)
    for again in (plan, copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert again.steps == plan.steps
        assert torch.equal(sample(again, net)[0], expected)
    assert all(torch.equal(plan.maps[name], numbers) for name, numbers in maps.items())
    assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())


# ---- the account --------------------------------------------------------------------------------


def one_residual(net, rows):
    """Bytes of the tokens of a batch in float32."""
    patches = (net.in_shape[1] // net.patch_size) ** 2
    return rows * (patches + net.num_extras) * net.width * 4


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@everywhere
def test_blocks_are_what_hooks_count(net, cfg_scale):
    ran: list[int] = []
    handles = watch(net, "mlp", lambda index, h: ran.append(len(h)))
    _, run = sample(mixed(net), net, num=3, cfg_scale=cfg_scale)
    for handle in handles:
        handle.remove()
    full, rows = net.num_blocks, 3 * (1 + (cfg_scale != 1))
    plain_exit = int(mixed_text(net)[mixed_text(net).index("X") + 1])
    expected = [full, 1, 0, plain_exit, 2, full, 1, 0, 3]
    assert [blocks.tolist() for blocks in run.blocks] == [[k] * rows for k in expected]
    assert sum(ran) == rows * sum(expected)


@everywhere
def test_only_residuals_that_later_steps_reuse_are_held(net):
    """The plan: two prefixes, then none, then one that no step needs at last."""
    plan = plan_of("F R1 R0 R1 F X5 F R2 F".replace("X5", f"X{net.num_blocks - 1}"))
    started, held = denoiser(plan, net, 3), []
    with torch.no_grad():
        for time in TIMES:
            started(torch.randn(3, *net.in_shape), time)
            held.append(started.call.held_bytes())
    one = one_residual(net, 3)
    assert held == [2 * one] * 4 + [0, 0] + [one, one] + [0]
    assert started.call.peak_bytes == 2 * one


@everywhere
def test_a_full_step_frees_the_residuals_before_its_blocks_run(net):
    started, held = denoiser(plan_of("F R1 R0 F R1 F R0 F F"), net, 2), []
    first = net.blocks[0] if net is NETS["dit"] else net.in_blocks[0]
    handle = first.register_forward_hook(lambda *_: held.append(started.call.held_bytes()))
    with torch.no_grad():
        for time in TIMES:
            started(torch.randn(2, *net.in_shape), time)
    handle.remove()
    one = one_residual(net, 2)
    assert held == [0, 2 * one, 0, one, 0, 0, 0]  # step 1 and step 4 are reuses of one block
