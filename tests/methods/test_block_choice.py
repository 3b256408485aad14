"""Which blocks a pruned network keeps."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from schedsearch.backbones.pruning import keep_blocks
from schedsearch.exceptions import ConfigError
from schedsearch.methods.block_choice import InfluenceRecorder, by_influence, greedy, uniform
from tests.backbones.small_models import DECODER, DEPTH, make_dit, make_inputs, make_uvit


def scores_of(net: Any, *, num_steps: int = 2) -> tuple[list[float], Tensor]:
    """Influence over some steps, and the prediction of the last one."""
    x, t, y = make_inputs(net, 3)
    times = [800.0 - 100 * step for step in range(num_steps)]
    run = InfluenceRecorder().begin(net, times, guided=False)
    with torch.no_grad():
        for step, clock in enumerate(times):
            found = run(x * (step + 1), t, y, clock=clock, step=step)
    assert [blocks.tolist() for blocks in run.blocks] == [[net.num_blocks] * 3] * num_steps
    return run.scores, found


def predict(net: Any, scale: int = 2) -> Tensor:
    x, t, y = make_inputs(net, 3)
    with torch.no_grad():
        output: Tensor = net(x * scale, t, y, exit_depth=net.num_exit_blocks)
    return output


def make_identity(block: Any) -> None:
    """A block that gives back its tokens; a U-ViT's decoder block drops the long skip too."""
    with torch.no_grad():
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.weight.zero_()
            layer.bias.zero_()
        if getattr(block, "skip_linear", None) is not None:
            width = block.skip_linear.out_features
            block.skip_linear.weight.copy_(torch.eye(width, 2 * width))
            block.skip_linear.bias.zero_()


# ---- influence ----------------------------------------------------------------------------------


def test_an_identity_block_has_no_influence_and_is_dropped_without_a_change() -> None:
    net = make_dit().eval()
    make_identity(net.blocks[2])
    scores, found = scores_of(net)
    assert scores[2] == pytest.approx(0, abs=1e-6)
    assert min(scores[:2] + scores[3:]) > 1e-4
    keep = by_influence(scores, DEPTH - 1)
    assert keep == [0, 1, 3, 4]
    assert torch.equal(found, predict(net))
    assert torch.equal(predict(keep_blocks(net, keep)), found)


def test_the_blocks_of_a_uvit_are_judged_in_pairs() -> None:
    net = make_uvit().eval()
    make_identity(net.in_blocks[1])
    one, _ = scores_of(net)
    make_identity(net.out_blocks[DECODER - 2])  # it merges the skip of encoder block 1
    both, found = scores_of(net)
    assert len(both) == DECODER
    assert both[1] == pytest.approx(0, abs=1e-6)
    assert one[1] > 1e-4
    keep = by_influence(both, DECODER - 1)
    assert keep == [0, 2, 3]
    assert torch.equal(predict(keep_blocks(net, keep)), found)


def test_influence_is_one_minus_the_mean_cosine_over_all_steps() -> None:
    net = make_dit().eval()
    x, t, y = make_inputs(net, 3)
    cosines = []
    with torch.no_grad():
        for scale in (1, 2):
            before = net.open(x * scale, t, y)
            after = net.run(before, 0)
            cosines.append(F.cosine_similarity(before.h, after.h, dim=-1).mean())
    assert scores_of(net)[0][0] == pytest.approx(1 - float(sum(cosines)) / 2, abs=1e-6)


def test_a_network_without_stages_is_refused() -> None:
    class Plain:
        num_exit_blocks = 3

    with pytest.raises(ConfigError, match="The choice of blocks runs the network block by block"):
        InfluenceRecorder().begin(Plain(), (1.0,), guided=False)  # type: ignore[arg-type]


# ---- choices ------------------------------------------------------------------------------------


def test_the_most_influential_blocks_stay_in_their_order() -> None:
    assert by_influence([0.1, 0.9, 0.2, 0.8], 3) == [1, 2, 3]
    assert by_influence([0.9, 0.1, 0.2, 0.8], 2) == [0, 3]
    assert by_influence([0.5, 0.5, 0.5], 3) == [0, 1, 2]


@pytest.mark.parametrize("num_blocks", [1, 2, 7, 28])
def test_evenly_spaced_blocks_are_distinct_and_span_the_network(num_blocks: int) -> None:
    for count in range(1, num_blocks + 1):
        keep = uniform(num_blocks, count)
        assert len(set(keep)) == count
        assert keep == sorted(keep)
        assert keep[0] == 0
        assert count == 1 or keep[-1] == num_blocks - 1
    assert uniform(9, 5) == [0, 2, 4, 6, 8]


def test_greedy_drops_the_block_whose_loss_rises_least_and_looks_again() -> None:
    costs = {0: 5.0, 1: 1.0, 2: 1.5, 3: 4.0}
    asked: list[tuple[int, ...]] = []

    def loss(keep: Sequence[int]) -> float:
        asked.append(tuple(keep))
        dropped = set(costs) - set(keep)
        # Blocks 1 and 2 do the same: without both, the loss is high.
        return sum(costs[block] for block in dropped) + (10 if {1, 2} <= dropped else 0)

    assert greedy(4, 3, loss) == [0, 2, 3]
    assert asked == [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]
    assert greedy(4, 2, loss) == [0, 2]
    assert greedy(4, 1, loss) == [2]
    assert greedy(4, 4, loss) == [0, 1, 2, 3]
