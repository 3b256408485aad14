import pytest
import torch
from torch import nn

from trainers.ema import averaged_net, resolve_decay, share_left, start_ema


def test_average_follows_the_formula_from_the_first_step() -> None:
    torch.manual_seed(0)
    net = nn.Linear(3, 2).double()
    decay, expected = 0.9, net.weight.detach().clone()
    ema = start_ema(net, decay)
    for _ in range(5):
        with torch.no_grad():
            net.weight += torch.randn_like(net.weight)
        ema.update_parameters(net)
        expected = decay * expected + (1 - decay) * net.weight.detach()
        # Would differ at once if the first update copied the weights.
        torch.testing.assert_close(ema.module.weight, expected, rtol=1e-12, atol=1e-12)


def test_average_is_a_copy() -> None:
    net = nn.Linear(2, 2)
    ema = start_ema(net, 0.5)
    before = ema.module.weight.detach().clone()
    with torch.no_grad():
        net.weight += 1
    assert torch.equal(averaged_net(ema).weight, before)
    assert not averaged_net(ema).training


def test_buffers_are_copied() -> None:
    net = nn.BatchNorm1d(2)
    ema = start_ema(net, 0.99)
    net(torch.randn(8, 2) + 5)
    ema.update_parameters(net)
    assert torch.equal(ema.module.running_mean, net.running_mean)


@pytest.mark.parametrize("num_steps", [1, 10, 100, 4000])
def test_auto_decay(num_steps: int) -> None:
    decay = resolve_decay("auto", num_steps)
    assert decay == pytest.approx(0.5 ** (1 / (0.3 * num_steps)))
    assert share_left(decay, num_steps) == pytest.approx(0.5 ** (1 / 0.3))  # 10 %


def test_given_decay() -> None:
    assert resolve_decay(0.9999, 100) == 0.9999
    assert share_left(0.9999, 100) == pytest.approx(0.99, abs=1e-3)
