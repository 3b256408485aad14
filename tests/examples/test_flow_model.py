"""The flow-matching model of the examples: what its space says of it is true."""

import sys
from pathlib import Path

import pytest
import torch

import schedsearch
from schedsearch.backbones.guidance import null_label_of
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.evaluation.flops import count_flops

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIFFUSION = {"process": "flow", "time": "sigma", "prediction": "x0"}


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(EXAMPLES)
    import my_flow_model

    torch.manual_seed(0)
    original = my_flow_model.EarlyExitPainter(depth=3, width=16)
    save_weights(original, tmp_path / "net.safetensors")
    yield schedsearch.load_backbone(
        {
            "backbone": {
                "family": "my_flow_model:EarlyExitPainter",
                "config": {"depth": 3, "width": 16},
                "checkpoint": str(tmp_path / "net.safetensors"),
            },
            "diffusion": DIFFUSION,
        }
    )
    sys.modules.pop("my_flow_model", None)


def test_its_null_label_is_not_a_class(net) -> None:
    assert null_label_of(net) == -1
    x, t = torch.randn(2, 1, 8, 8), torch.full((2,), 0.5)
    with torch.no_grad():
        without = net(x, t, torch.full((2,), -1), exit_depth=3)
        assert torch.equal(without, net(x, t, None, exit_depth=3))
        for label in (0, 9):
            assert not torch.allclose(without, net(x, t, torch.full((2,), label), exit_depth=3))


def test_depths_per_sample_and_for_the_batch_agree(net) -> None:
    x, t, y = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0, 4, -1])
    with torch.no_grad():
        mixed = net(x, t, y, exit_depth=torch.tensor([1, 2, 3]))
        for depth in (1, 2, 3):
            alone = net(x, t, y, exit_depth=depth)[depth - 1]
            torch.testing.assert_close(mixed[depth - 1], alone)
    assert count_flops(net).calls[1].total < count_flops(net).calls[3].total


def test_samples_are_those_of_eulers_method_written_out(net) -> None:
    """The network predicts the data at sigma; guidance mixes its predictions."""
    noise, y = torch.randn(4, 1, 8, 8), torch.tensor([3, 1, 4, 1])
    schedule = schedsearch.ExitSchedule((3, 3, 3, 3, 3, 2, 2, 2, 1, 1))
    x = noise
    for k in range(5):
        sigma, depth = (5 - k) / 5, schedule.depth_at(1000 * (5 - k) / 5)
        t = torch.full((4,), sigma)
        with torch.no_grad():
            data = net(x, t, y, exit_depth=depth)
            without = net(x, t, torch.full_like(y, -1), exit_depth=depth)
        data = without + 1.5 * (data - without)
        x = x - (x - data) / sigma / 5
    found = schedsearch.sample(net, schedule, num_steps=5, noise=noise, labels=y, cfg_scale=1.5)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)
