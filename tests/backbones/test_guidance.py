import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.guidance import GuidedDenoiser, null_label_of
from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.protocols import Solver
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


def flow_solver(**options: object) -> Solver:
    process = FlowProcess("sigma1000")
    settings = SolverSettings(name="flow_euler", num_steps=4, cfg_scale=3.0, **options)  # type: ignore[arg-type]
    return build_solver(settings, process)


def test_guidance_of_a_velocity_on_three_of_four_channels() -> None:
    net, (x, y) = make_net(learn_sigma=False), make_batch()
    t = torch.full((5,), 500.0)
    with torch.no_grad():
        with_label, without = (
            net(x, t, label, exit_depth=2) for label in (y, torch.full_like(y, 4))
        )
        denoiser = GuidedDenoiser(net, SCHEDULE, flow_solver(), y, cfg_scale=3.0, cfg_channels=1)
        actual = denoiser(x, 500.0)
    guided = without + 3.0 * (with_label - without)
    torch.testing.assert_close(actual, torch.cat([guided[:, :1], with_label[:, 1:]], dim=1))


def test_outside_of_its_interval_guidance_is_off_and_costs_nothing() -> None:
    net, (x, y) = make_net(learn_sigma=False), make_batch()
    rows: list[int] = []
    net.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    solver = flow_solver(cfg_interval=(200.0, 600.0))
    with torch.no_grad():
        inside = GuidedDenoiser(net, SCHEDULE, solver, y, cfg_scale=3.0)
        always = GuidedDenoiser(net, SCHEDULE, flow_solver(), y, cfg_scale=3.0)
        never = GuidedDenoiser(net, SCHEDULE, flow_solver(), y)
        for t, expected in ((601.0, never), (600.0, always), (200.0, always), (199.0, never)):
            assert torch.equal(inside(x, t), expected(x, t))
    assert rows == [5, 5, 10, 10, 10, 10, 5, 5]


def test_methods_that_remember_a_batch_refuse_an_interval_of_guidance() -> None:
    net, (_, y) = make_net(learn_sigma=False), make_batch()
    cache = ResidualCache(first=0, signal="steps", every=2)
    with pytest.raises(ConfigError, match=r"cfg_interval changes the batch .* set it to null"):
        GuidedDenoiser(net, cache, flow_solver(cfg_interval=(1.0, 9.0)), y, cfg_scale=3.0)


class NullAtZero(nn.Module):
    """Classes are rows 1 to 4 of its table; row 0 is "no class"."""

    num_exit_blocks, in_shape, num_classes, null_label = 3, (2, 8, 8), 4, -1

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int) -> Tensor:
        assert y is not None
        rows = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])[y + 1]
        return rows.view(-1, 1, 1, 1).expand(x.shape)


def test_a_model_says_where_its_null_label_is() -> None:
    net, (x, y) = NullAtZero(), make_batch()
    assert null_label_of(net) == -1
    denoiser = GuidedDenoiser(net, SCHEDULE, flow_solver(), y, cfg_scale=3.0)
    found = denoiser(x, 500.0)[:, 0, 0, 0]  # 0 + 3 (class row - 0)
    assert found.tolist() == [3.0, 6.0, 9.0, 12.0, 3.0]
