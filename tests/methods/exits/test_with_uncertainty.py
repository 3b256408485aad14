"""The uncertainty module and the network that carries it."""

import copy
import pickle

import pytest
import torch
from torch import nn

from schedsearch.backbones.every_exit import exit_points
from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.exceptions import ConfigError
from schedsearch.methods.exits.uncertainty import WithUncertainty
from schedsearch.protocols import Backbone, StagedBackbone
from tests.backbones.small_models import make_uvit
from tests.methods.exits.exit_networks import JUDGED, NETS, inputs, with_module
from trainers.ema import averaged_net, start_ema

nets = pytest.mark.parametrize("name", NETS)


def test_number_of_exits() -> None:
    paper = make_uvit(depth=12)
    assert list(exit_points(paper)) == list(range(7, 14))
    assert list(exit_points(paper, "all")) == list(range(1, 14))
    assert list(exit_points(NETS["dit"])) == list(exit_points(NETS["dit"], "all"))
    assert len(WithUncertainty.of(paper, exits="all").uem.weight) == 13
    assert len(WithUncertainty.of(paper).uem.weight) == 7
    assert len(WithUncertainty.of(paper, shared=True).uem.weight) == 1


@nets
@pytest.mark.parametrize("time", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_the_map_is_one_linear_layer_per_patch(name: str, time: bool, shared: bool) -> None:
    """Eq. 8 with plain loops over patches and their pixels."""
    net = with_module(NETS[name], time=time, shared=shared)
    (channels, _, _), P = net.in_shape, net.patch_size
    with torch.no_grad():
        tokens = net.run(net.open(*inputs(NETS[name], 3)), 0)
        found = net.uem(tokens, 2)
        row = 0 if shared else 2
        expected = torch.zeros(3, channels, 8, 8)
        for n in range(3):
            for patch in range(16):
                h = tokens.h[n, net.num_extras + patch]
                given = torch.cat([h, tokens.time[n]]) if time else h
                pixels = torch.sigmoid(net.uem.weight[row] @ given + net.uem.bias[row])
                top, left = P * (patch // 4), P * (patch % 4)
                square = pixels.reshape(P, P, channels).permute(2, 0, 1)
                expected[n, :, top : top + P, left : left + P] = square
        torch.testing.assert_close(found, expected)
        mean = net.uem.mean_uncertainty(tokens, 2)
    torch.testing.assert_close(mean, expected.flatten(1).mean(1))


def test_certainty_is_turned_into_uncertainty() -> None:
    paper, code = (
        with_module(NETS["dit"], time=False, variant=variant) for variant in ("paper", "code")
    )
    tokens = paper.open(*inputs(NETS["dit"]))
    code.uem.weight, code.uem.bias = paper.uem.weight, paper.uem.bias
    assert torch.equal(paper.uem(tokens, 0), code.uem(tokens, 0))
    expected = 1 - paper.uem.mean_uncertainty(tokens, 0)
    torch.testing.assert_close(code.uem.mean_uncertainty(tokens, 0), expected)


def test_no_gradient_reaches_the_network_through_the_module() -> None:
    net = copy.deepcopy(JUDGED["dit"])
    tokens = net.run(net.open(*inputs(NETS["dit"])), 0)
    net.uem(tokens, 1).sum().backward()
    assert all(parameter.grad is None for parameter in net.net.parameters())
    assert net.uem.weight.grad is not None
    assert net.uem.weight.grad[1].abs().sum() > 0
    assert net.uem.weight.grad[0].abs().sum() == 0


# ---- the network as before ----------------------------------------------------------------------


@nets
def test_it_is_the_network_in_every_other_respect(name: str) -> None:
    net, whole = NETS[name], JUDGED[name]
    assert isinstance(whole, Backbone)
    assert isinstance(whole, StagedBackbone)
    for attribute in (
        "num_exit_blocks",
        "in_shape",
        "num_classes",
        "null_label",
        "learn_sigma",
        "patch_size",
        "num_extras",
        "num_blocks",
        "width",
        "gradient_checkpointing",
    ):
        assert getattr(whole, attribute) == getattr(net, attribute)
    batch = inputs(net)
    depths = torch.tensor([3, 1, 2, 4, 1, 1, 2, 3, 4])
    with torch.no_grad():
        for depth in (2, depths):
            found = whole(*batch, exit_depth=depth)
            assert torch.equal(found, net(*batch, exit_depth=depth))


def test_gradient_checkpointing_is_the_networks() -> None:
    net = copy.deepcopy(JUDGED["dit"])
    net.gradient_checkpointing = True
    assert net.net.gradient_checkpointing is True
    assert not hasattr(WithUncertainty(nn.Identity(), net.uem), "gradient_checkpointing")


@nets
def test_its_state_is_the_networks_and_the_modules(name: str) -> None:
    net, whole = NETS[name], copy.deepcopy(JUDGED[name])
    state = whole.state_dict()
    own = {key: value for key, value in state.items() if not key.startswith("uem.")}
    assert set(own) == set(net.state_dict())
    net.load_state_dict(own)  # strict
    assert set(state) - set(own) == {"uem.weight", "uem.bias", "uem.trained_for"}
    other = with_module(copy.deepcopy(net))
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(state)
    assert fingerprint(other) == fingerprint(whole)
    with pytest.raises(RuntimeError, match="blocks"):
        other.load_state_dict({k: v for k, v in state.items() if "blocks" not in k})


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="block by block, but Linear cannot"):
        WithUncertainty.of(nn.Linear(1, 1))


def test_it_can_be_averaged_copied_and_pickled() -> None:
    whole = copy.deepcopy(JUDGED["uvit"])
    ema = start_ema(whole, 0.5)
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter += 1
    ema.update_parameters(whole)
    saved = {name: value.clone() for name, value in ema.state_dict().items()}
    assert "module.uem.weight" in saved
    assert "module.mid_block.norm1.weight" in saved
    ema.load_state_dict(saved)
    averaged = averaged_net(ema)
    assert isinstance(averaged, WithUncertainty)
    torch.testing.assert_close(averaged.uem.bias, JUDGED["uvit"].uem.bias + 0.5)
    again = pickle.loads(pickle.dumps(averaged))
    assert fingerprint(again) == fingerprint(averaged) != fingerprint(JUDGED["uvit"])
