"""Sampling a SiT by the formulas of its paper, in its own time: 0 at the noise, 1 at the data."""

from typing import Any

import pytest
import torch
from small_models import DIT_CONFIG, make_dit
from torch import Tensor, nn

import schedsearch
from schedsearch.backbones.sit import SiT
from schedsearch.evaluation.sampling import starting_noise
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.edges import shifted_edges
from schedsearch.schedules.exit_schedule import ExitSchedule

SCHEDULE = ExitSchedule((5, 5, 4, 4, 3, 3, 2, 2, 1, 1), shifted_edges(10, 3.0))
CFG = 1.5


def make_net() -> Any:
    net: Any = schedsearch.load_backbone({"family": "sit", "config": DIT_CONFIG})
    assert isinstance(net, SiT)
    net.load_state_dict(make_dit().state_dict())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    return net.eval()


def velocity(net: nn.Module, x: Tensor, t: float, y: Tensor, channels: int) -> Tensor:
    """Guided velocity; SiT's code guides the first channels alone."""
    depth = SCHEDULE.depth_at(1000 * (1 - t))
    null = torch.full_like(y, 7)
    out: Tensor = net(
        torch.cat([x, x]), torch.full((2 * len(x),), t), torch.cat([y, null]), exit_depth=depth
    )
    cond, uncond = out.chunk(2)
    guided = uncond + CFG * (cond - uncond)
    return torch.cat([guided[:, :channels], cond[:, channels:]], 1)


@torch.inference_mode()
@pytest.mark.parametrize(("solver", "calls"), [("flow_euler", 20), ("flow_heun", 20)])
@pytest.mark.parametrize("channels", [1, 2])
def test_euler_and_heun_from_noise_to_data(solver: str, calls: int, channels: int) -> None:
    net = make_net()
    x, y = starting_noise(0, 3, (2, 8, 8)), torch.tensor([0, 3, 6])
    found = schedsearch.sample(
        net,
        SCHEDULE,
        solver=solver,
        num_steps=calls,
        num=3,
        labels=y,
        cfg_scale=CFG,
        cfg_channels=channels,
    )
    n = calls if solver == "flow_euler" else calls // 2
    for k in range(n):
        t, h = k / n, 1 / n
        v = velocity(net, x, t, y, channels)
        if solver == "flow_heun":
            v = (v + velocity(net, x + h * v, (k + 1) / n, y, channels)) / 2
        x = x + h * v
    scale = float(x.abs().max())
    torch.testing.assert_close(found / scale, x / scale, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_sde_calls_the_network_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_net()
    times: list[float] = []
    forward = net.forward

    def counted(x: Tensor, t: Tensor, y: Tensor | None = None, **more: Any) -> Tensor:
        times.append(float(t[0]))
        out: Tensor = forward(x, t, y, **more)
        return out

    monkeypatch.setattr(net, "forward", counted)
    images = schedsearch.sample(net, SCHEDULE, solver="sit_sde", num_steps=25, num=2)
    assert images.isfinite().all()
    assert len(times) == 25
    assert times == sorted(times), "from noise to data"
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(0.96)


def test_a_sit_is_no_network_of_ddpm() -> None:
    net = make_net()
    with pytest.raises(ConfigError, match="is trained by flow matching, but"):
        schedsearch.sample(net, SCHEDULE, num=1, diffusion={"betas": "linear"})
    with pytest.raises(ConfigError, match="a SiT is trained by flow matching, got ddpm"):
        schedsearch.load_backbone(
            {"backbone": {"name": "SiT-S/8"}, "diffusion": {"betas": "linear"}}
        )


def test_other_solvers_are_refused() -> None:
    with pytest.raises(ConfigError, match="ddim cannot run on the process flow"):
        schedsearch.sample(make_net(), SCHEDULE, solver="ddim", num=1)


@torch.inference_mode()
def test_an_enabled_sit_follows_the_edges() -> None:
    net = make_net()
    x, y = starting_noise(0, 2, (2, 8, 8)), torch.tensor([1, 7])
    for t in (0.0, 0.03, 0.1, 0.3, 0.5, 0.76, 1.0):
        time = torch.full((2,), t)
        expected = net(x, time, y, exit_depth=SCHEDULE.depth_at(1000 * (1 - t)))
        with schedsearch.enabled(net, SCHEDULE):
            assert torch.equal(net(x, time, y), expected)
    with schedsearch.enabled(net, "D3-DiT@flow"):
        assert net(x, torch.zeros(2), y).shape == x.shape
