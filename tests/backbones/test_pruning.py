"""Networks with fewer blocks, or with fewer heads and MLP units."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.pruning import (
    WidthScores,
    blocks_of,
    keep_blocks,
    narrow,
    width_scores,
)
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.networks import build_network
from tests.backbones.small_models import DECODER, DEPTH, make_dit, make_inputs, make_uvit

NETS = {"dit": make_dit().eval(), "uvit": make_uvit().eval()}

nets = pytest.mark.parametrize("name", NETS)


def predict(net: Any) -> Tensor:
    """Full depth on the usual batch."""
    x, t, y = make_inputs(net, 3)
    with torch.no_grad():
        output: Tensor = net(x, t, y, exit_depth=net.num_exit_blocks)
    return output


# ---- fewer blocks -------------------------------------------------------------------------------


@nets
def test_keeping_all_blocks_changes_nothing(name: str) -> None:
    net = NETS[name]
    made = keep_blocks(net, range(net.num_exit_blocks))
    assert torch.equal(predict(made), predict(net))


def test_a_dit_runs_only_the_blocks_that_it_keeps() -> None:
    net, keep = NETS["dit"], [0, 3]
    made = keep_blocks(net, keep)
    x, t, y = make_inputs(net, 3)
    with torch.no_grad():
        tokens = net.open(x, t, y)
        for block in keep:
            tokens = net.run(tokens, block)
        expected = net.close(tokens, len(keep))
    assert made.num_exit_blocks == made.num_blocks == 2
    assert torch.equal(predict(made), expected)


def test_a_uvit_keeps_the_decoder_block_whose_skip_comes_from_an_encoder_block() -> None:
    net, keep = NETS["uvit"], [0, 2]
    made = keep_blocks(net, keep)
    x, t, y = make_inputs(net, 3)
    with torch.no_grad():
        h, skips = net.open(x, t, y).h, {}
        for block in keep:
            h = skips[block] = net.in_blocks[block](h)
        h = net.mid_block(h)
        for block in reversed(keep):  # the decoder merges the last encoder block first
            h = net.out_blocks[DECODER - 1 - block](h, skips[block])
        expected = net._image(h)
    assert made.num_exit_blocks == 2
    assert made.num_blocks == 5
    assert torch.equal(predict(made), expected)


@nets
def test_the_pretrained_network_stays_as_it_is(name: str) -> None:
    net = NETS[name]
    before = predict(net)
    made = keep_blocks(net, [1])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert torch.equal(predict(net), before)


@nets
@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [-1, 0], [0, 5], [DEPTH]])
def test_indices_that_are_not_increasing_blocks(name: str, keep: list[int]) -> None:
    last = NETS[name].num_exit_blocks - 1
    with pytest.raises(ConfigError, match=rf"must be increasing indices in 0\.\.{last}, got \["):
        keep_blocks(NETS[name], keep)


def test_only_the_shipped_families_can_be_cut() -> None:
    with pytest.raises(ConfigError, match="cut out of a DiT or U-ViT, not a WithUncertainty"):
        keep_blocks(WithUncertainty.of(make_dit()), [0])
    with pytest.raises(ConfigError, match="not a Linear"):
        keep_blocks(nn.Linear(1, 1), [0])


# ---- fewer heads and units ----------------------------------------------------------------------


def silence(net: Any, heads: dict[int, list[int]], units: dict[int, list[int]]) -> None:
    """Zero what these heads and MLP units of some blocks put out."""
    with torch.no_grad():
        for index, block in enumerate(blocks_of(net)):
            size = block.attn.qkv.in_features // block.attn.num_heads
            for head in heads.get(index, []):
                block.attn.proj.weight[:, head * size : (head + 1) * size] = 0
            block.mlp.fc2.weight[:, units.get(index, [])] = 0


@pytest.mark.parametrize("make", [make_dit, make_uvit, partial(make_uvit, qkv_bias=True)])
def test_heads_and_units_without_outgoing_weights_can_go(make: Any) -> None:
    net = make().eval()
    num = len(blocks_of(net))
    heads = {index: [index % 4, (index + 2) % 4] for index in range(num)}
    width = blocks_of(net)[0].mlp.fc1.out_features
    units = {index: list(range(index, width, 3))[:30] for index in range(num)}
    silence(net, heads, units)
    scores = WidthScores(heads=torch.ones(num, 4), hidden=torch.ones(num, width))
    for index in range(num):
        scores.heads[index, heads[index]] = 0
        scores.hidden[index, units[index]] = 0
    made = narrow(net, 2, width - 30, scores)
    assert {block.attn.num_heads for block in blocks_of(made)} == {2}
    assert {block.mlp.fc1.out_features for block in blocks_of(made)} == {width - 30}
    assert sum(p.numel() for p in made.parameters()) < sum(p.numel() for p in net.parameters())
    torch.testing.assert_close(predict(made), predict(net), rtol=0, atol=1e-6)


def test_other_heads_and_units_are_missed() -> None:
    net = make_dit().eval()
    assert not torch.allclose(predict(narrow(net, 3, 128, None)), predict(net), atol=1e-3)
    assert not torch.allclose(predict(narrow(net, 4, 127, None)), predict(net), atol=1e-6)
    assert torch.equal(predict(narrow(net, 4, 128, None)), predict(net))


def test_a_narrow_network_can_be_cut_and_narrowed_again() -> None:
    cut = keep_blocks(NETS["dit"], [0, 2])
    twice = narrow(narrow(cut, 3, 64, None), 2, 32, None)
    assert torch.equal(predict(twice), predict(narrow(cut, 2, 32, None)))


def test_a_narrow_network_keeps_mode_and_dtype() -> None:
    made = narrow(make_dit().bfloat16().eval(), 2, 8, None)
    assert not any(module.training for module in made.modules())
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(("heads", "hidden"), [(0, 8), (5, 8), (2, 0), (2, 129)])
@pytest.mark.parametrize("scored", [False, True])
def test_more_heads_and_units_than_there_are(heads: int, hidden: int, scored: bool) -> None:
    ones = WidthScores(heads=torch.ones(DEPTH, 4), hidden=torch.ones(DEPTH, 128))
    with pytest.raises(ConfigError, match=r"1\.\.4 heads and 1\.\.128 MLP units, but"):
        narrow(make_dit(), heads, hidden, ones if scored else None)


def test_only_the_shipped_families_can_be_narrowed() -> None:
    with pytest.raises(ConfigError, match="needs a DiT or U-ViT, not a WithUncertainty"):
        narrow(WithUncertainty.of(make_dit()), 2, 8, None)


# ---- scores -------------------------------------------------------------------------------------


def losses(net: DiT) -> list[Tensor]:
    """Two losses whose gradients are known: sums of chosen weights."""
    first, second = net.blocks[0], net.blocks[1]
    return [
        2 * first.mlp.fc1.bias[5] - 3 * first.attn.proj.weight[0, 8:16].sum() + 0 * full(net),
        # The same unit again, with the other sign: absolute values add up over timesteps.
        -2 * first.mlp.fc1.bias[5] + second.attn.qkv.bias[32 + 24] + 0 * full(net),
    ]


def full(net: DiT) -> Tensor:
    """A loss that reaches every parameter."""
    return torch.stack([parameter.sum() for parameter in net.parameters()]).sum()


def test_scores_add_weight_times_gradient_within_groups_and_its_size_over_timesteps() -> None:
    net = make_dit(depth=2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1)
    scores = width_scores(net, iter(losses(net)))
    expected_hidden, expected_heads = torch.zeros(2, 128), torch.zeros(2, 4)
    expected_hidden[0, 5] = 2 + 2
    expected_heads[0, 1] = 3 * 8  # eight inputs of the projection belong to head 1
    expected_heads[1, 3] = 1  # bias 24 of the keys belongs to head 3
    torch.testing.assert_close(scores.hidden, expected_hidden)
    torch.testing.assert_close(scores.heads, expected_heads)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_uvit_is_scored_in_all_its_blocks() -> None:
    net = make_uvit()
    x, t, y = make_inputs(net, 3)
    call = net(x, t, y, exit_depth=net.num_exit_blocks)
    scores = width_scores(net, iter([call.square().mean()]))
    assert scores.heads.shape == (2 * DECODER + 1, 4)
    assert (scores.heads > 0).all()
    assert (scores.hidden > 0).float().mean() > 0.9  # a unit may be off


def test_silent_groups_have_the_lowest_scores() -> None:
    net = make_dit(depth=2)
    with torch.no_grad():
        for index, unit, head in ((0, 7, 2), (1, 9, 0)):
            block: Any = net.blocks[index]
            for weight in (block.mlp.fc1.weight, block.mlp.fc1.bias):
                weight[unit] = 0
            block.mlp.fc2.weight[:, unit] = 0
            block.attn.proj.weight[:, 8 * head : 8 * head + 8] = 0
            for part in range(3):
                rows = slice(32 * part + 8 * head, 32 * part + 8 * head + 8)
                block.attn.qkv.weight[rows] = block.attn.qkv.bias[rows] = 0
    x, t, y = make_inputs(net, 3)
    scores = width_scores(net, (net(x, t, y, exit_depth=2).square().mean() for _ in range(2)))
    assert scores.hidden.argmin(1).tolist() == [7, 9]
    assert scores.heads.argmin(1).tolist() == [2, 0]
    torch.testing.assert_close(
        predict(narrow(net, 3, 127, scores)), predict(net), rtol=0, atol=1e-6
    )


# ---- on disk ------------------------------------------------------------------------------------


@nets
def test_the_weights_of_a_pruned_network_can_be_loaded_again(name: str, tmp_path: Path) -> None:
    make = {"dit": make_dit, "uvit": make_uvit}[name]
    for structure in ({"keep": [0, 2]}, {"heads": 2, "hidden": 48}):
        made: Any = build_network(structure, make().eval(), None)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(0.9)
        save_weights(made, tmp_path / "model.safetensors")
        again: Any = build_network(structure, make().train(), tmp_path / "model.safetensors")
        assert torch.equal(predict(again), predict(made))
        assert not again.training
        with pytest.raises(CheckpointError):
            build_network({"keep": [0]}, make(), tmp_path / "model.safetensors")
