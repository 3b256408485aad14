"""Learning-to-Cache: what a router learns, and that the network stays as it is."""

import pytest
import torch

from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.router import CallRecording, plans_of, train_router
from tests.methods.caches.cached_runs import NETS, TIMES, constant_branches, sample, sample_plain

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def learned(net, **options):
    _, run = sample(CallRecording(), net)
    settings = {"penalty": 1e-3, "iterations": 150, "batch_size": 4, "lr": 0.2, "seed": 0}
    return train_router(net, [run], **{**settings, **options})


@everywhere
def test_a_recording_samples_at_full_depth(net):
    images, run = sample(CallRecording(), net, cfg_scale=2.0)
    assert torch.equal(images, sample_plain(net, cfg_scale=2.0))
    assert len(run.calls) == len(TIMES)
    x, t, y = run.calls[3]
    assert x.shape == (6, *net.in_shape)  # with and without the label
    assert t.shape == y.shape == (6,)


@everywhere
def test_the_first_step_of_a_pair_runs_whole(net):
    weights = learned(net, penalty=10.0)
    assert weights.shape == (len(TIMES), net.num_blocks, 2)
    assert (weights[0::2] == 1).all()
    for plan in plans_of(weights):
        assert all(all(row) for row in plan[0::2])
        assert not any(bit for row in plan[1::2] for bit in row)


@everywhere
def test_nothing_is_reused_where_running_costs_nothing_and_reuse_does(net):
    weights = learned(net, penalty=1e-12)
    assert weights[1::2].mean() > 0.8


def test_what_never_changes_is_reused():
    """Sub-blocks that add the same at any time have no error, so only their price counts."""
    net = constant_branches(NETS["dit"])
    attention, mlp = plans_of(learned(net))
    method = BlockCache(recompute=attention, recompute_mlp=mlp)
    assert not any(bit for plan in (attention, mlp) for row in plan[1::2] for bit in row)
    assert torch.equal(sample(method, net)[0], sample_plain(net))


def test_the_network_stays_as_it_is_and_a_seed_repeats():
    net = NETS["dit"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first, second, other = learned(net), learned(net), learned(net, seed=1)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
