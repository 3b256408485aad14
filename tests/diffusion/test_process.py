import math

import torch

from schedsearch.diffusion.losses import mse
from schedsearch.diffusion.process import DDPMProcess, build_process
from schedsearch.settings import DiffusionSettings


def test_linear_schedule_of_ddpm() -> None:
    process = build_process(DiffusionSettings())
    assert process.num_timesteps == 1000
    alpha_bar = 1.0
    for t in range(1000):
        alpha_bar *= 1.0 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert math.isclose(process.alpha_bar(t), alpha_bar, rel_tol=1e-12)
    assert 4.0e-5 < alpha_bar < 4.1e-5  # almost nothing left of the data


def test_q_sample_is_the_formula_per_sample() -> None:
    process = DDPMProcess()
    x0, noise = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    t = torch.tensor([0, 10, 500, 999])
    x_t = process.q_sample(x0, t, noise)
    assert x_t.dtype == torch.float32
    for i, time in enumerate(t.tolist()):
        ab = process.alpha_bar(time)
        expected = math.sqrt(ab) * x0[i] + math.sqrt(1 - ab) * noise[i]
        torch.testing.assert_close(x_t[i], expected)


def test_variance_is_preserved() -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(4000, 1, 2, 2, generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    for t in (0, 300, 999):
        x_t = DDPMProcess().q_sample(x0, torch.full((4000,), t), noise)
        assert abs(float(x_t.var()) - 1.0) < 0.05


def test_mse_is_per_sample_and_ignores_a_variance_half() -> None:
    noise = torch.zeros(2, 1, 2, 2)
    prediction = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    assert mse(prediction, noise).tolist() == [1.0, 9.0]
    with_variance = torch.cat([prediction, torch.full_like(prediction, 99.0)], dim=1)
    assert mse(with_variance, noise).tolist() == [1.0, 9.0]
