"""Compiled blocks: which are compiled, and that exits share their graphs."""

import copy

import pytest
import torch
from torch import nn

from schedsearch.backbones.compiling import compile_blocks
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.uvit import UViT
from schedsearch.exceptions import ConfigError


def dit() -> DiT:
    torch.manual_seed(0)
    net = DiT(
        input_size=4, patch_size=2, in_channels=1, hidden_size=8, depth=10, num_heads=2,
        num_classes=3, learn_sigma=False,
    ).eval()  # fmt: skip
    for parameter in net.parameters():  # a new DiT predicts zeros at every depth
        nn.init.normal_(parameter, std=0.2)
    return net


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What torch traced, run as it is."""
    found: list[object] = []

    def counting(graph: torch.fx.GraphModule, inputs: object) -> object:
        found.append(graph)
        return graph.forward

    compile_module = nn.Module.compile
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda block, dynamic: compile_module(block, backend=counting, dynamic=dynamic),
    )
    torch.compiler.reset()
    return found


def test_all_depths_of_a_dit_share_one_graph(graphs: list[object]) -> None:
    """Ten blocks are more than the eight graphs that torch allows a function."""
    net, plain = dit(), dit()
    assert compile_blocks(net) == 10
    x, t, y = torch.randn(2, 1, 4, 4), torch.tensor([3.0, 5.0]), torch.tensor([0, 2])
    with torch.inference_mode():
        for depth in (10, 3, 7):
            found = net(x, t, y, exit_depth=depth)
            assert torch.allclose(found, plain(x, t, y, exit_depth=depth), atol=1e-5)
    assert len(graphs) == 1


def test_all_depths_of_a_u_vit_share_three(graphs: list[object]) -> None:
    net = UViT(
        img_size=4, patch_size=2, in_chans=1, embed_dim=8, depth=6, num_heads=2, num_classes=3
    ).eval()
    plain = copy.deepcopy(net)
    assert compile_blocks(net) == 3 + 1 + 3
    x, t, y = torch.randn(2, 1, 4, 4), torch.tensor([3.0, 5.0]), torch.tensor([0, 2])
    with torch.inference_mode():
        for depth in (3, 1, 0, 2):
            found = net(x, t, y, exit_depth=depth)
            assert torch.allclose(found, plain(x, t, y, exit_depth=depth), atol=1e-5)
    assert len(graphs) == 3


def test_a_network_without_repeated_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has none"):
        compile_blocks(nn.Linear(2, 2))
