import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.guidance import GuidedDenoiser, null_label_of
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import SolverSettings

SOLVER = build_solver(SolverSettings(), DDPMProcess(), learned_variance=True)
SCHEDULE = ExitSchedule((3, 3, 3, 2, 2, 2, 2, 1, 1, 1))


def make_net(**overrides: object) -> DiT:
    config = {"num_classes": 4, "learn_sigma": True, **overrides}
    torch.manual_seed(0)
    net = DiT(8, 4, 2, 16, 3, 2, **config).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def make_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 2, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 0])


@pytest.mark.parametrize(("t", "depth"), [(0.0, 3), (299.9, 3), (300.0, 2), (999.0, 1)])
def test_depth_follows_the_schedule_and_the_variance_is_dropped(t: float, depth: int) -> None:
    net, (x, y) = make_net(), make_batch()
    with torch.no_grad():
        expected = net(x, torch.full((5,), t), y, exit_depth=depth)[:, :2]
        assert torch.equal(GuidedDenoiser(net, SCHEDULE, SOLVER, y)(x, t), expected)


def test_guidance_formula() -> None:
    net, (x, y) = make_net(), make_batch()
    t = torch.full((5,), 500.0)
    with torch.no_grad():
        with_label = net(x, t, y, exit_depth=2)[:, :2]
        without = net(x, t, torch.full_like(y, 4), exit_depth=2)[:, :2]
        actual = GuidedDenoiser(net, SCHEDULE, SOLVER, y, cfg_scale=3.0)(x, 500.0)
    torch.testing.assert_close(actual, without + 3.0 * (with_label - without))
    assert (with_label - without).abs().max() > 1e-3


def test_guidance_needs_a_null_label() -> None:
    net, (_, y) = make_net(class_dropout_prob=0.0), make_batch()
    assert null_label_of(net) is None
    with pytest.raises(ConfigError, match="set cfg_scale to 1"):
        GuidedDenoiser(net, SCHEDULE, SOLVER, y, cfg_scale=2.0)
    with pytest.raises(ConfigError, match="set cfg_scale to 1"):
        GuidedDenoiser(make_net(num_classes=0), SCHEDULE, SOLVER, None, cfg_scale=2.0)


def test_a_half_precision_model_inside_a_float32_solver() -> None:
    x, y = make_batch()
    with torch.no_grad():
        exact = GuidedDenoiser(make_net(), SCHEDULE, SOLVER, y)(x, 10.0)
        eps = GuidedDenoiser(make_net().bfloat16(), SCHEDULE, SOLVER, y)(x, 10.0)
    assert eps.dtype == torch.float32
    assert 0 < (eps - exact).abs().mean() < 0.1 * exact.abs().mean()
