"""The network whose exits run the head on mapped tokens."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.every_exit import predict_at_exits, run_exits
from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights, save_weights
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers.dpm_solver import MultistepDPMSolver
from schedsearch.evaluation.flops import count_flops
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.exits.with_adapters import WithAdapters, early_exits
from schedsearch.methods.plans.maps import adapted, fit_adapter
from schedsearch.methods.plans.recording import FitRecording, Layout
from schedsearch.protocols import Backbone, StagedBackbone
from tests.backbones.small_models import make_dit
from tests.methods.exits.exit_networks import NETS, inputs
from trainers.ema import averaged_net, start_ema

nets = pytest.mark.parametrize("name", NETS)


def with_maps(net: Any, exits: Any = None) -> WithAdapters:
    """A network with maps far from the identity, at every exit or at some."""
    whole = WithAdapters.of(copy.deepcopy(net), early_exits(net) if exits is None else exits)
    torch.manual_seed(3)
    for parameter in whole.adapters.parameters():
        nn.init.normal_(parameter, std=0.3)
    return whole.eval()


ADAPTED = {name: with_maps(net) for name, net in NETS.items()}


def by_hand(net: Any, whole: WithAdapters, batch: tuple[Any, ...], depth: int) -> Tensor:
    """The blocks up to an exit, its map, then the head and nothing else."""
    tokens = net.open(*batch)
    for block in range(net.num_blocks - net.num_exit_blocks + depth):
        tokens = net.run(tokens, block)
    h = adapted(tokens.h, whole.adapters[str(depth)])
    return net.close(replace(tokens, h=h, skips=()), net.num_blocks, "all")


@nets
def test_an_exit_runs_the_head_on_mapped_tokens(name: str) -> None:
    net, whole = NETS[name], ADAPTED[name]
    batch = inputs(net)
    with torch.no_grad():
        for depth in early_exits(net):
            found = whole(*batch, exit_depth=depth)
            assert torch.equal(found, by_hand(net, whole, batch, depth))
            assert not torch.allclose(found, net(*batch, exit_depth=depth), atol=1e-2)


@nets
def test_full_depth_is_the_networks_bit_for_bit(name: str) -> None:
    net, whole = NETS[name], ADAPTED[name]
    batch, full = inputs(net), net.num_exit_blocks
    with torch.no_grad():
        expected = net(*batch, exit_depth=full)
        assert torch.equal(whole(*batch, exit_depth=full), expected)
        assert torch.equal(whole(*batch, exit_depth=torch.full((9,), full)), expected)


@nets
def test_samples_exit_one_by_one(name: str) -> None:
    """In one batch, with full depth and exits without a map among them."""
    net = NETS[name]
    first, full = early_exits(net)[0], net.num_exit_blocks
    whole = with_maps(net, [first + 1, first + 2])
    batch = inputs(net)
    depths = torch.tensor([full, first, 2, first + 1, full, 3, first, 2, first + 1])
    with torch.no_grad():
        found = whole(*batch, exit_depth=depths)
        for row, depth in enumerate(depths.tolist()):
            alone = tuple(None if part is None else part[row : row + 1] for part in batch)
            expected = whole(*alone, exit_depth=depth)
            if depth not in whole.exits:
                assert torch.equal(expected, net(*alone, exit_depth=depth))
            torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-5, atol=1e-5)


def test_blocks_run_only_on_samples_that_need_them() -> None:
    whole, seen = with_maps(NETS["dit"]), []
    for block in whole.net.blocks.children():
        block.register_forward_hook(lambda _, given, _out: seen.append(len(given[0])))
    whole(*inputs(NETS["dit"]), exit_depth=torch.tensor([3, 1, 2, 2, 1, 4, 1, 3, 4]))
    assert seen == [9, 6, 4, 2]
    seen.clear()
    whole(*inputs(NETS["dit"]), exit_depth=2)
    assert seen == [9, 9]


@nets
def test_it_is_a_staged_backbone(name: str) -> None:
    net, whole = NETS[name], ADAPTED[name]
    assert isinstance(whole, Backbone)
    assert isinstance(whole, StagedBackbone)
    batch, full = inputs(net), net.num_exit_blocks
    depths = [*early_exits(net), full]
    with torch.no_grad():
        one_by_one = [whole(*batch, exit_depth=depth) for depth in depths]
        always = net.num_blocks - full
        staged = [out for out, _ in run_exits(whole, *batch, [always + d for d in depths])]
        together = list(predict_at_exits(whole, *batch, depths))
    assert all(map(torch.equal, staged, one_by_one))
    assert all(map(torch.equal, together, one_by_one))


def test_maps_that_change_nothing_are_the_start() -> None:
    net = NETS["dit"]
    whole, batch = WithAdapters.of(copy.deepcopy(net), [2]), inputs(net)
    with torch.no_grad():
        found = whole(*batch, exit_depth=2)
        torch.testing.assert_close(found, net(*batch, exit_depth=2), rtol=1e-5, atol=1e-5)


@nets
def test_fitted_maps_come_nearer_to_full_depth(name: str) -> None:
    """The whole way: one sampling run at full depth, its sums, the maps."""
    net = NETS[name]
    always, full = net.num_blocks - net.num_exit_blocks, net.num_exit_blocks
    points = tuple(always + depth for depth in early_exits(net))
    layout = Layout(prefixes=(), exits=points, max_age=1)
    run = FitRecording(layout).begin(net, (900.0, 400.0), guided=False)
    batch = inputs(net)
    with torch.no_grad():
        run(*batch, clock=900.0, step=0)
        run(*batch, clock=400.0, step=1)
    maps = {point - always: fit_adapter(sums) for point, sums in run.adapters.items()}
    whole = WithAdapters(copy.deepcopy(net), maps)
    with torch.no_grad():
        wanted = net(*batch, exit_depth=full)
        for depth in early_exits(net):
            missed = (whole(*batch, exit_depth=depth) - wanted).square().mean()
            plain = (net(*batch, exit_depth=depth) - wanted).square().mean()
            assert missed < 0.5 * plain


# ---- training, weights and counts ---------------------------------------------------------------


def test_maps_are_trained_and_averaged_with_the_network() -> None:
    whole = with_maps(NETS["dit"], [2, 3]).train()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    ema = start_ema(whole, 0.5)
    optimizer = torch.optim.SGD(whole.parameters(), 0.1)
    whole(*inputs(NETS["dit"]), exit_depth=torch.tensor([2] * 4 + [5] * 5)).sum().backward()
    assert whole.adapters["2"].grad is not None
    assert whole.adapters["3"].grad is None
    optimizer.step()
    ema.update_parameters(whole)
    after, mean = whole.state_dict(), averaged_net(ema).state_dict()
    for name in ("adapters.2", "blocks.0.mlp.fc1.weight"):
        assert not torch.equal(after[name], before[name])
        torch.testing.assert_close(mean[name], (before[name] + after[name]) / 2)


@nets
def test_its_state_is_the_networks_and_the_maps(name: str, tmp_path: Path) -> None:
    net, whole = NETS[name], with_maps(NETS[name], [1, 3])
    assert set(whole.state_dict()) - set(net.state_dict()) == {"adapters.1", "adapters.3"}
    assert whole.exits == (1, 3)
    save_weights(whole, tmp_path / "w.safetensors")
    other = WithAdapters.of(copy.deepcopy(net), [3, 1])
    assert fingerprint(other) != fingerprint(whole)
    load_weights(other, tmp_path / "w.safetensors")
    assert fingerprint(other) == fingerprint(whole)
    with pytest.raises(CheckpointError, match=r"1 unexpected: adapters\.1"):
        load_weights(WithAdapters.of(copy.deepcopy(net), [3]), tmp_path / "w.safetensors")


def test_a_plain_network_refuses_the_weights_in_plain_words(tmp_path: Path) -> None:
    save_weights(ADAPTED["dit"], tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"holds exit adapters.*sample --method FILE"):
        load_weights(make_dit(), tmp_path / "w.safetensors")


def test_flops_count_the_map() -> None:
    net, whole = NETS["dit"], ADAPTED["dit"]
    plain, mapped = count_flops(net), count_flops(whole)
    num_tokens, width = 16, net.width
    extra = 2 * num_tokens * width * width
    for depth in early_exits(net):
        assert mapped.calls[depth].total == plain.calls[depth].total + extra
    assert mapped.calls[5].total == plain.calls[5].total


def test_a_solver_takes_it(tmp_path: Path) -> None:
    from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
    from schedsearch.schedules.exit_schedule import ExitSchedule

    whole = ADAPTED["dit"]
    solver = MultistepDPMSolver(DDPMProcess(), [900.0, 500.0, 100.0])
    noise, labels = starting_noise(1, 3, whole.in_shape), balanced_labels(3, whole.num_classes)
    images = generate(whole, ExitSchedule.flat(2), solver, noise, labels, 2, cfg_scale=2.0)
    assert images.isfinite().all()


# ---- what does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "depth"), [("dit", 0), ("dit", 5), ("uvit", 4)])
def test_exits_that_the_network_lacks(name: str, depth: int) -> None:
    with pytest.raises(ConfigError, match=rf"exits below full depth, here .*got {depth}\."):
        WithAdapters.of(copy.deepcopy(NETS[name]), [depth])


def test_maps_of_another_width() -> None:
    with pytest.raises(ConfigError, match=r"map 32 channels, got maps of \(9, 8\)"):
        WithAdapters(copy.deepcopy(NETS["dit"]), {2: torch.zeros(9, 8)})


def test_a_network_that_cannot_run_block_by_block() -> None:
    with pytest.raises(ConfigError, match="An exit adapter runs the network block by block"):
        WithAdapters.of(nn.Linear(2, 2), [1])
    with pytest.raises(ValueError, match=r"exit_depth must lie in 1\.\.5"):
        ADAPTED["dit"](*inputs(NETS["dit"]), exit_depth=0)
