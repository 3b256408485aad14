"""FORA and Block Caching: what is reused, what is kept, and which plans fit."""

import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.block_cache import BlockCache
from tests.methods.caches.cached_runs import (
    NETS,
    TIMES,
    constant_branches,
    denoiser,
    sample,
    sample_plain,
    watch,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def staggered(net):
    """A plan that recomputes every block at its own steps."""
    return tuple(
        tuple(step == 0 or (step + block) % 3 == 0 for block in range(net.num_blocks))
        for step in range(len(TIMES))
    )


def identity(net):
    scale_shift = torch.zeros(len(TIMES), net.num_blocks, 2, net.width)
    scale_shift[:, :, 0] = 1
    return scale_shift


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@everywhere
def test_a_cache_that_never_reuses_is_full_depth(net, cfg_scale):
    fresh = ((True,) * net.num_blocks,) * len(TIMES)
    expected = sample_plain(net, cfg_scale=cfg_scale)
    for method in (BlockCache(every=1), BlockCache(recompute=fresh, parts=("attention",))):
        found, run = sample(method, net, cfg_scale=cfg_scale)
        assert torch.equal(found, expected)
        assert run.held_bytes() == 0
        assert {float(b) for blocks in run.blocks for b in blocks} == {net.num_blocks}


@everywhere
def test_a_network_that_always_adds_the_same_is_cached_exactly(net):
    net = constant_branches(net)
    plain = sample_plain(net)
    for method in (
        BlockCache(every=4),
        BlockCache(recompute=staggered(net), parts=("attention",)),
        BlockCache(recompute=staggered(net), parts=("mlp",)),
    ):
        assert torch.equal(sample(method, net)[0], plain)


@pytest.mark.parametrize("parts", [("attention",), ("attention", "mlp")])
@everywhere
def test_the_account_is_what_hooks_count(net, parts):
    plan = staggered(net)
    method = BlockCache(recompute=plan, parts=parts)
    for part in ("attention", "mlp"):
        ran = []
        handles = watch(net, {"attention": "attn"}.get(part, part), lambda b, h: ran.append(b))  # noqa: B023
        _, run = sample(method, net)
        for handle in handles:
            handle.remove()
        expected = [b for row in plan for b, fresh in enumerate(row) if fresh or part not in parts]
        assert ran == expected
    reused = sum(row.count(False) for row in plan)
    total = sum(float(blocks[0]) for blocks in run.blocks)
    assert total == len(TIMES) * net.num_blocks - reused * len(parts) / 2


@everywhere
def test_attention_and_mlps_may_have_their_own_plans(net):
    attention = staggered(net)
    mlp = tuple((step % 2 == 0,) * net.num_blocks for step in range(len(TIMES)))
    method = BlockCache(recompute=attention, recompute_mlp=mlp)
    for part, plan in (("attn", attention), ("mlp", mlp)):
        ran = []
        handles = watch(net, part, lambda b, h: ran.append(b))  # noqa: B023
        _, run = sample(method, net)
        for handle in handles:
            handle.remove()
        assert ran == [b for row in plan for b, fresh in enumerate(row) if fresh]
    reused = sum(row.count(False) for plan in (attention, mlp) for row in plan)
    total = sum(float(blocks[0]) for blocks in run.blocks)
    assert total == len(TIMES) * net.num_blocks - reused / 2
    same, _ = sample(BlockCache(recompute=attention, recompute_mlp=attention), net)
    assert torch.equal(same, sample(BlockCache(recompute=attention), net)[0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"recompute_mlp": ((True,),), "every": 2},
        {"recompute_mlp": ((True,),), "recompute": ((True,),), "parts": ("mlp",)},
    ],
)
def test_a_plan_of_mlps_needs_one_of_attention(arguments):
    with pytest.raises(ConfigError, match="recompute_mlp needs recompute and parts"):
        BlockCache(**arguments)


@everywhere
def test_what_is_reused_is_the_output_before_the_gate(net):
    """Reused steps equal a network whose attention returns its output of the step before."""
    x = torch.randn(2, 2, *net.in_shape, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([1, 2])
    outputs = []
    blocks = net.blocks if hasattr(net, "blocks") else None
    modules = (
        [block.attn for block in blocks]
        if blocks is not None
        else [b.attn for b in (*net.in_blocks, net.mid_block, *net.out_blocks)]
    )
    call = BlockCache(every=2, parts=("attention",)).begin(net, (900.0, 800.0), guided=False)
    with torch.no_grad():
        call(x[0], torch.full((2,), 900.0), y, clock=900.0, step=0)
        found = call(x[1], torch.full((2,), 800.0), y, clock=800.0, step=1)
        # By hand: the first call's outputs, put in place of the second call's.
        handles = [m.register_forward_hook(lambda m, i, o: outputs.append(o)) for m in modules]
        net(x[0], torch.full((2,), 900.0), y, exit_depth=net.num_exit_blocks)
        for handle in handles:
            handle.remove()
        stale = iter(outputs)
        handles = [m.register_forward_hook(lambda m, i, o: next(stale)) for m in modules]
        expected = net(x[1], torch.full((2,), 800.0), y, exit_depth=net.num_exit_blocks)
        for handle in handles:
            handle.remove()
    assert torch.equal(found, expected)
    assert not torch.equal(
        found, net(x[1], torch.full((2,), 800.0), y, exit_depth=net.num_exit_blocks)
    )


@everywhere
def test_only_what_a_later_step_reuses_is_kept(net):
    method = BlockCache(every=3)
    x = torch.randn(2, *net.in_shape)
    started = denoiser(method, net, 2)
    kept = []
    with torch.no_grad():
        for time in TIMES[:5]:
            started(x, time)
            kept.append(started.call.held_bytes())
    num_tokens = (net.in_shape[1] // net.patch_size) ** 2 + net.num_extras
    whole = 2 * net.num_blocks * 2 * num_tokens * net.width * 4
    assert kept == [whole, whole, 0, whole, whole]


@everywhere
def test_scale_and_shift_change_reused_attention_alone(net):
    plan = staggered(net)
    plain, _ = sample(BlockCache(recompute=plan, parts=("attention",)), net)

    def scaled(scale_shift):
        return sample(BlockCache(plan, parts=("attention",), scale_shift=scale_shift), net)[0]

    assert torch.equal(scaled(identity(net)), plain)
    unused = identity(net)
    unused[torch.tensor(plan)] = 7.0
    assert torch.equal(scaled(unused), plain)
    used = identity(net)
    used[1, 0, 1] += 0.5
    assert not plan[1][0]
    assert not torch.equal(scaled(used), plain)


def test_a_plan_fits_one_number_of_steps_and_blocks():
    net = NETS["dit"]
    method = BlockCache(recompute=staggered(net), parts=("attention",))
    with pytest.raises(ConfigError, match=r"is for 9 solver steps, but the solver takes 8; cal"):
        method.begin(net, TIMES[:-1], guided=False)
    with pytest.raises(ConfigError, match=r"is for 5 blocks, but the network has 9"):
        method.begin(NETS["uvit"], TIMES, guided=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a plan"),
        ({"every": 2, "recompute": ((True,),)}, "either a plan"),
        ({"every": 0}, "every .* at least 1, got 0"),
        ({"every": 2, "parts": ()}, "parts of a block cache"),
        ({"every": 2, "parts": ("heads",)}, "parts of a block cache"),
        ({"recompute": ((True, False), (True, True))}, "recompute all blocks at step 0"),
        ({"every": 2, "scale_shift": torch.ones(1, 1, 2, 8)}, "scale_shift needs a plan"),
        (
            {"recompute": ((True,),), "parts": ("attention",), "scale_shift": torch.ones(2, 8)},
            r"must have shape \(1, 1, 2, 'D'\), got \(2, 8\)",
        ),
    ],
)
def test_arguments_that_contradict_each_other(arguments, message):
    with pytest.raises(ConfigError, match=message):
        BlockCache(**arguments)


def test_scale_and_shift_of_another_width():
    net = NETS["dit"]
    scale_shift = torch.ones(len(TIMES), net.num_blocks, 2, 8)
    method = BlockCache(staggered(net), parts=("attention",), scale_shift=scale_shift)
    with pytest.raises(ConfigError, match="for a network of width 8, but this one has 32"):
        method.begin(net, TIMES, guided=False)
