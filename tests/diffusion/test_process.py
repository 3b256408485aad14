import math

import pytest
import torch

from schedsearch.diffusion.losses import mse
from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess, build_process
from schedsearch.settings import DiffusionSettings, Prediction

ALL = [DDPMProcess(), DDPMProcess("cosine"), VPProcess()]
NAMES = ["linear", "cosine", "vp"]


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


def test_cosine_schedule_of_improved_ddpm() -> None:
    process = build_process(DiffusionSettings(betas="cosine"))

    def f(t: float) -> float:  # Eq. 17; timestep t here is t + 1 there
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0, 1, 500, 998):
        assert process.alpha_bar(t) == pytest.approx(f(t + 1) / f(0), rel=1e-9)
    assert float(DDPMProcess("cosine").betas[999]) == 0.999  # clipped, so not 0 / f(0)
    assert process.alpha_bar(999) == pytest.approx(0.001 * f(999) / f(0), rel=1e-9)


def test_continuous_process_of_u_vit() -> None:
    process = build_process(DiffusionSettings(betas="vp"))
    assert isinstance(process, VPProcess)
    for s in (1e-4, 0.3, 1.0):
        integral = 0.1 * s + (20 - 0.1) * s**2 / 2
        assert process.alpha_bar(1000 * s) == pytest.approx(math.exp(-integral), rel=1e-12)
        step = 1e-3
        slope = math.log(
            process.alpha_bar(1000 * s - step) / process.alpha_bar(1000 * s + step)
        ) / (2e-3 * step)
        assert process.beta(1000 * s) == pytest.approx(slope, rel=1e-4)
    assert process.network_time(torch.tensor([1000.0, 500.0])).tolist() == [999.0, 499.5]
    times = process.draw_times(1000, torch.Generator().manual_seed(0))
    assert times.is_floating_point()
    assert 0 <= float(times.min()) < 10
    assert 990 < float(times.max()) <= 1000


def test_between_timesteps_log_alpha_bar_is_a_line() -> None:
    for process in ALL[:2]:
        low, high = math.log(process.alpha_bar(500)), math.log(process.alpha_bar(501))
        between = math.log(process.alpha_bar(500.25))
        assert between == pytest.approx(0.75 * low + 0.25 * high, rel=1e-12)


@pytest.mark.parametrize("process", ALL, ids=NAMES)
def test_times_and_noise_levels_are_each_others_inverse(process: NoiseProcess) -> None:
    for t in (0.1, 1.0, 37.4, 500.0, 998.5, process.start_time):
        alpha, sigma = (float(v) for v in process.scales(torch.tensor(t, dtype=torch.float64)))
        assert process.half_log_snr(t) == pytest.approx(math.log(alpha / sigma), rel=1e-9)
        assert process.time_at_half_log_snr(process.half_log_snr(t)) == pytest.approx(t, rel=1e-7)
        assert process.time_at(math.log(process.alpha_bar(t))) == pytest.approx(t, rel=1e-6)


def test_sampling_starts_at_the_noisiest_time() -> None:
    assert [process.start_time for process in ALL] == [999.0, 999.0, 1000.0]
    assert all(process.alpha_bar(process.start_time) < 1e-4 for process in ALL)


@pytest.mark.parametrize("betas", NAMES)
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_the_noise_is_found_back_from_every_target(betas: str, prediction: Prediction) -> None:
    process = build_process(DiffusionSettings(betas=betas, prediction=prediction))  # type: ignore[arg-type]
    x0, noise = torch.randn(2, 1, 3, 3).double(), torch.randn(2, 1, 3, 3).double()
    for t in (3.0, 420.0, process.start_time):
        times = torch.full((2,), t)
        target = process.target(x0, times, noise)
        x_t = process.q_sample(x0, times, noise)
        torch.testing.assert_close(process.eps_from(target, x_t, t), noise, rtol=1e-6, atol=1e-6)
    alpha, sigma = (float(v) for v in process.scales(torch.tensor(420.0)))
    meant = {"eps": noise, "x0": x0, "v": alpha * noise - sigma * x0}[prediction]
    torch.testing.assert_close(process.target(x0, torch.full((2,), 420.0), noise), meant)


def test_x0_says_nothing_about_noise_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"nothing about the noise at t=0\.0"):
        VPProcess("x0").eps_from(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), 0.0)
