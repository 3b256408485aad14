"""Several exits in one pass give what single calls give."""

import pytest
import torch
from torch import nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.every_exit import predict_at_exits
from schedsearch.backbones.uvit import UViT


def dit(**changes: object) -> DiT:
    values = {"input_size": 8, "in_channels": 1, "hidden_size": 16, "depth": 5, "num_heads": 2}
    return shaken(DiT(**{**values, "num_classes": 10, "learn_sigma": True, **changes}))


def uvit(**changes: object) -> UViT:
    values = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 6}
    return shaken(UViT(**{**values, "num_heads": 2, "num_classes": 10, **changes}))


def shaken(net):
    """No layer may be zero, or every exit would look alike."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


class Derived(DiT):
    """A DiT of somebody else: every exit adds its depth."""

    def forward(self, x, t, y=None, *, exit_depth):
        return super().forward(x, t, y, exit_depth=exit_depth) + exit_depth


NETS = {
    "dit": dit(),
    "dit without classes": dit(num_classes=0, learn_sigma=False),
    "uvit": uvit(),
    "uvit without skips": uvit(skip=False),
    "uvit with a time MLP": uvit(mlp_time_embed=True, conv=False, num_classes=-1),
    "derived": shaken(Derived(8, 2, 1, 16, 5, 2, num_classes=10)),
}


@pytest.mark.parametrize("depths", [(1, 2, 3), (2,), (1, 3)], ids=str)
@pytest.mark.parametrize("name", NETS)
def test_every_exit_as_if_it_were_alone(name: str, depths: tuple[int, ...]) -> None:
    net = NETS[name]
    x, t = torch.randn(4, 1, 8, 8), torch.tensor([0.0, 100.0, 500.0, 999.0])
    y = None if net.num_classes is None else torch.tensor([0, 3, 7, 9])
    with torch.inference_mode():
        found = list(predict_at_exits(net, x, t, y, depths))
        expected = [net(x, t, y, exit_depth=depth) for depth in depths]
    assert len(found) == len(depths)
    for ours, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-5, atol=1e-5)
    if len(found) > 1:
        assert not torch.allclose(found[0], found[-1], atol=1e-2)


def test_depth_0_of_a_u_vit() -> None:
    net, x, t, y = NETS["uvit"], torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2).long()
    with torch.inference_mode():
        (found,) = predict_at_exits(net, x, t, y, [0])
        torch.testing.assert_close(found, net(x, t, y, exit_depth=0))


@pytest.mark.parametrize("name", ["dit", "uvit"])
def test_a_block_runs_once_for_all_exits(name: str) -> None:
    net = NETS[name]
    counts: dict[nn.Module, int] = {}
    blocks = net.blocks if isinstance(net, DiT) else (*net.in_blocks, net.mid_block)
    hooks = [
        block.register_forward_hook(lambda m, *_: counts.update({m: counts.get(m, 0) + 1}))
        for block in blocks
    ]
    x, t, y = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2).long()
    list(predict_at_exits(net, x, t, y, (1, 2, 3)))
    for hook in hooks:
        hook.remove()
    assert set(counts.values()) == {1}
    assert len(counts) == (3 if name == "dit" else 4)  # no block beyond the deepest exit


@pytest.mark.parametrize("depths", [(), (2, 1), (1, 1)], ids=str)
def test_depths_rise(depths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="increasing depths"):
        list(predict_at_exits(NETS["dit"], torch.zeros(1, 1, 8, 8), torch.zeros(1), None, depths))


@pytest.mark.parametrize(("name", "depths"), [("dit", (0, 1)), ("dit", (6,)), ("uvit", (3, 4))])
def test_exits_that_a_network_does_not_have(name: str, depths: tuple[int, ...]) -> None:
    x, t, y = torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1).long()
    with pytest.raises(ValueError, match="exit_depth must lie in"):
        list(predict_at_exits(NETS[name], x, t, y, depths))
