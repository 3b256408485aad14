"""What every cache and token merging owe: no state outside a run, and images like a network's."""

import copy
import itertools
import pickle

import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.methods.token_merging import TokenMerging
from schedsearch.protocols import ObservedCall
from tests.methods.caches.cached_runs import (
    INPUT_THRESHOLD,
    NETS,
    TIMES,
    denoiser,
    sample,
    sample_plain,
    threshold_of,
    trajectory,
)

METHODS = {
    "fora": lambda net: BlockCache(every=3),
    "block_caching": lambda net: BlockCache(
        recompute=tuple(
            tuple(step == 0 or (step + block) % 3 == 0 for block in range(net.num_blocks))
            for step in range(len(TIMES))
        ),
        parts=("attention",),
        scale_shift=torch.full((len(TIMES), net.num_blocks, 2, net.width), 0.9),
    ),
    "learning_to_cache": lambda net: BlockCache(
        recompute=tuple((step % 2 == 0,) * net.num_blocks for step in range(len(TIMES))),
        recompute_mlp=tuple(
            tuple(step % 2 == 0 or block % 2 == 0 for block in range(net.num_blocks))
            for step in range(len(TIMES))
        ),
    ),
    "deepcache": lambda net: ResidualCache(first=2, signal="steps", every=2, last=1),
    "fbcache": lambda net: ResidualCache(first=1, signal="residual", threshold=threshold_of(net)),
    "fbcache_per_sample": lambda net: ResidualCache(
        first=1, signal="residual", threshold=threshold_of(net), decide="sample", last=1
    ),
    "teacache": lambda net: ResidualCache(
        first=0, signal="input", threshold=INPUT_THRESHOLD, rescale=(0.5, 1.0, 0.0)
    ),
    "teacache_per_sample": lambda net: ResidualCache(
        first=0, signal="input", threshold=INPUT_THRESHOLD, decide="sample"
    ),
    "tome": lambda net: TokenMerging("B4", 0.5, ("attention", "mlp")),
    "tome_random": lambda net: TokenMerging("all", 0.5, random=True, seed=3),
}

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
every_kind = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


@everywhere
@every_kind
def test_interleaved_runs_equal_runs_in_sequence(make, net):
    method = make(net)
    with torch.no_grad():
        alone = [list(trajectory(method, net, seed)) for seed in (1, 2)]
        # The second runs one step behind, as the latency's copy does.
        both = itertools.zip_longest(
            trajectory(method, net, 1), itertools.chain([None], trajectory(method, net, 2))
        )
        first, second = zip(*both, strict=True)
    for expected, found in zip(alone, (first[:-1], second[1:]), strict=True):
        assert all(map(torch.equal, expected, found))
    assert not torch.equal(alone[0][-1], alone[1][-1])


@everywhere
@every_kind
def test_a_run_sees_nothing_of_another(make, net):
    method = make(net)
    weights = copy.deepcopy(net.state_dict())
    expected, _ = sample(method, net)
    # A run broken off in mid-way leaves nothing in the method or the network.
    with torch.no_grad():
        broken = trajectory(method, net, seed=9)
        for _ in range(4):
            next(broken)
    assert torch.equal(sample(method, net)[0], expected)
    for copied in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
        assert copied == method
        assert torch.equal(sample(copied, net)[0], expected)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())


@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])
@everywhere
@every_kind
def test_images_of_every_kind(make, net, solver, cfg_scale, num):
    method = make(net)
    options = {"num": num, "cfg_scale": cfg_scale, "solver": solver}
    images, run = sample(method, net, **options)
    assert images.shape == (num, *net.in_shape)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert not images.requires_grad
    assert torch.equal(sample(method, net, **options)[0], images)
    assert not torch.equal(sample_plain(net, **options), images)
    # The account of the run.
    assert isinstance(run, ObservedCall)
    rows = num * (1 + (cfg_scale != 1))
    assert [len(blocks) for blocks in run.blocks] == [rows] * len(TIMES)
    assert (run.blocks[0] == net.num_blocks).all()
    if not isinstance(method, TokenMerging):
        assert torch.stack(run.blocks).mean() < net.num_blocks


@everywhere
@every_kind
def test_half_precision(make, net):
    method = make(net)
    half = copy.deepcopy(net).to(torch.bfloat16)
    images, _ = sample(method, half, cfg_scale=2.0)
    assert images.isfinite().all()
    assert not torch.equal(images, sample_plain(half, cfg_scale=2.0))
    started = denoiser(method, half, 4)
    x = torch.randn(4, *net.in_shape)
    with torch.no_grad():
        for time in TIMES[:3]:
            assert started(x, time).dtype == x.dtype
    tokens = [tensor for tensor in started.call.held() if tensor.ndim == 3]
    assert {tensor.dtype for tensor in tokens} <= {torch.bfloat16}


@every_kind
def test_a_network_without_stages_is_refused(make):
    method = make(NETS["dit"])

    class Plain:
        num_exit_blocks = 5

    with pytest.raises(ConfigError, match="runs the network block by block, but Plain cannot"):
        method.begin(Plain(), TIMES, guided=False)
