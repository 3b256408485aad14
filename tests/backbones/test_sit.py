"""SiT: a DiT without the variances, on times from noise to data."""

import copy

import pytest
import torch
from small_models import DEPTH, DIT_CONFIG, make_dit
from torch import nn

import schedsearch
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.every_exit import predict_at_exits
from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.pruning import keep_blocks
from schedsearch.backbones.registry import build_backbone
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.uvit import UViT
from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.settings import BackboneSettings


def make_sit(*, learn_sigma: bool = True) -> SiT:
    """A small SiT with the weights of the small DiT."""
    net = SiT(**DIT_CONFIG, learn_sigma=learn_sigma)
    net.load_state_dict(make_dit(learn_sigma=learn_sigma).state_dict())
    return net.eval()


def make_batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, 8, 8, generator=generator)
    return x, torch.randint(8, (n,), generator=generator)


@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.999, 1.0])
def test_the_output_is_that_of_a_dit_without_variances(t: float, learn_sigma: bool) -> None:
    net, dit = make_sit(learn_sigma=learn_sigma), make_dit(learn_sigma=learn_sigma).eval()
    x, y = make_batch()
    time = torch.full((len(x),), t)
    with torch.inference_mode():
        for depth in (1, 3, DEPTH):
            output = net(x, time, y, exit_depth=depth)
            assert output.shape == x.shape
            assert torch.equal(output, dit(x, time, y, exit_depth=depth)[:, :2])


def test_it_learns_no_variance_whatever_its_layer_holds() -> None:
    assert make_sit().state_dict().keys() == make_dit().state_dict().keys()
    assert make_sit().final_layer.linear.out_features == 4 * 4
    assert not learns_variance(make_sit())


@torch.inference_mode()
def test_depths_per_sample_and_every_exit() -> None:
    net = make_sit()
    x, y = make_batch(5)
    t = torch.linspace(0, 1, 5)
    alone = torch.cat(
        [net(x[i, None], t[i, None], y[i, None], exit_depth=i + 1) for i in range(DEPTH)]
    )
    depths = torch.arange(1, DEPTH + 1)
    torch.testing.assert_close(net(x, t, y, exit_depth=depths), alone, rtol=1e-5, atol=1e-6)
    runs = list(predict_at_exits(net, x, t, y, [1, 2, DEPTH]))
    for depth, output in zip([1, 2, DEPTH], runs, strict=True):
        assert torch.equal(output, net(x, t, y, exit_depth=depth))


@torch.inference_mode()
def test_whole_times_are_floats() -> None:
    net = make_sit()
    x, y = make_batch(2)
    floats = net(x, torch.ones(2), y, exit_depth=2)
    assert torch.equal(net(x, torch.ones(2, dtype=torch.long), y, exit_depth=2), floats)


def test_copies_stay_a_sit() -> None:
    net = make_sit()
    for made in (copy.deepcopy(net), keep_blocks(net, [0, 2, 4])):
        assert type(made) is SiT
        assert not made.learn_sigma


@pytest.mark.parametrize("size", ["S", "B", "L", "XL"])
@pytest.mark.parametrize("side", [2, 4, 8])
def test_registry_names(size: str, side: int) -> None:
    family, fixed = REGISTRY[f"SiT-{size}/{side}"]
    assert family == "sit"
    assert fixed == REGISTRY[f"DiT-{size}/{side}"][1]
    with torch.device("meta"):
        net = build_backbone(BackboneSettings(name=f"SiT-{size}/{side}"))
    assert isinstance(net, SiT)
    assert net.num_exit_blocks == fixed["depth"]
    assert net.patch_size == side


def test_from_python() -> None:
    net = schedsearch.load_backbone({"family": "sit", "config": DIT_CONFIG})
    assert isinstance(net, SiT)
    assert isinstance(net, DiT)
    assert not isinstance(net, UViT)
    assert isinstance(net, nn.Module)
    x, y = make_batch()
    assert net(x, torch.full((6,), 0.5), y, exit_depth=3).shape == x.shape
