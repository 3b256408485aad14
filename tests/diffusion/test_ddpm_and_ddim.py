"""DDPM and DDIM equal their equations, diffusers where it is the same, and exact moments."""

import math
from typing import Any

import pytest
import torch
from gaussian_data import MEAN, STD, Tape, bent_denoiser, flow_error, make_noise, moments
from gaussian_data import observed_order as slope
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import DDIM, DDPM
from schedsearch.diffusion.solvers.ddpm import StepVariance
from schedsearch.diffusion.solvers.times import Spacing, ddim_times

LINEAR, COSINE = DDPMProcess(), DDPMProcess("cosine")
SPACINGS: tuple[Spacing, ...] = ("linspace", "leading", "trailing")
VARIANCES: tuple[StepVariance, ...] = ("learned", "fixed_small", "fixed_large")


def raw_variance(x: Tensor, t: float) -> Tensor:
    """What a network might say of its variance; beyond [-1, 1] at times, which is allowed."""
    return 1.5 * torch.sin(3 * x + t / 50)


def both(x: Tensor, t: float) -> Tensor:
    return torch.cat([bent_denoiser(x, t), raw_variance(x, t)], dim=1)


def plain_ddpm(
    process: DDPMProcess, times: tuple[int, ...], variance: str, x: Tensor, draw: Tape
) -> Tensor:
    """A process of the kept timesteps with matching betas, sampled by way of x0."""
    kept = [float(process.alpha_bars[t]) for t in reversed(times)]  # data -> noise
    betas = [1 - bar / before for bar, before in zip(kept, [1.0, *kept], strict=False)]
    for k in reversed(range(len(kept))):
        t, bar, beta = times[len(times) - 1 - k], kept[k], betas[k]
        before = kept[k - 1] if k else 1.0
        eps = bent_denoiser(x, float(t))
        x0 = (x - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
        mean = (
            math.sqrt(before) * beta / (1 - bar) * x0
            + math.sqrt(1 - beta) * (1 - before) / (1 - bar) * x
        )
        if k == 0:
            return mean
        posterior = beta * (1 - before) / (1 - bar)
        if variance == "fixed_small":
            spread: Any = torch.tensor(posterior, dtype=x.dtype)
        elif variance == "fixed_large":
            spread = torch.tensor(beta, dtype=x.dtype)
        else:
            share = (raw_variance(x, float(t)) + 1) / 2
            spread = torch.exp(share * math.log(beta) + (1 - share) * math.log(posterior))
        x = mean + spread.sqrt() * draw()
    raise AssertionError


@pytest.mark.parametrize("process", [LINEAR, COSINE], ids=["linear", "cosine"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("num_steps", [1, 2, 25])
def test_ddpm_equals_the_equations(
    process: DDPMProcess, spacing: Spacing, variance: StepVariance, num_steps: int
) -> None:
    times = ddim_times(spacing, num_steps)
    noise = make_noise()
    expected = plain_ddpm(process, times, variance, noise, Tape(noise))
    denoiser = both if variance == "learned" else bent_denoiser
    actual = DDPM(process, times, variance).sample(denoiser, noise, Tape(noise))
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spacing", ["linspace", "leading"])
@pytest.mark.parametrize(
    ("variance", "theirs"),
    [("learned", "learned_range"), ("fixed_small", "fixed_small"), ("fixed_large",) * 2],
)
def test_ddpm_equals_diffusers(spacing: Spacing, variance: StepVariance, theirs: str) -> None:
    # It draws from one generator for the batch, so it could not serve: see DDPM.
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(clip_sample=False, timestep_spacing=spacing, variance_type=theirs)
    scheduler.alphas_cumprod = LINEAR.alpha_bars  # its own are float32
    scheduler.set_timesteps(25)
    denoiser = both if variance == "learned" else bent_denoiser
    x = make_noise(dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    for t in scheduler.timesteps:
        x = scheduler.step(denoiser(x, float(t)), t, x, generator=generator).prev_sample
    solver = DDPM(LINEAR, ddim_times(spacing, 25), variance)
    generator.manual_seed(3)
    noise = make_noise(dtype=torch.float32)
    samples = solver.sample(denoiser, noise, lambda: torch.randn(x.shape, generator=generator))
    assert solver.times == tuple(scheduler.timesteps.tolist())
    torch.testing.assert_close(samples, x.float(), rtol=1e-4, atol=1e-4)


def test_the_last_step_of_ddpm_adds_no_noise_wherever_it_starts() -> None:
    # With trailing spacing diffusers adds beta of the last step to the images.
    solver = DDPM(LINEAR, ddim_times("trailing", 4), "fixed_large")
    noise = make_noise()
    assert solver.times[-1] == 249
    tape = Tape(noise)
    solver.sample(bent_denoiser, noise, tape)
    assert tape.calls == 3


def test_variances_of_ddpm_bound_that_of_the_data() -> None:
    # DDPM, Sec. 3.2: fixed_large is right for N(0, 1) data, fixed_small for a single point.
    for num_steps, bound in ((50, 0.2), (250, 0.06), (1000, 0.02)):
        times = ddim_times("linspace", num_steps)
        small = moments(DDPM(LINEAR, times, "fixed_small"))
        large = moments(DDPM(LINEAR, times, "fixed_large"))
        assert abs(small[0] - MEAN) < 1e-4
        assert abs(large[0] - MEAN) < 1e-4
        assert (1 - bound) * STD < small[1] < STD < large[1] < (1 + bound) * STD


def plain_ddim(x: Tensor, times: tuple[float, ...], eta: float, draw: Tape) -> Tensor:
    """Song et al. 2021, Eq. 12 and 16, to the next timestep of the list."""
    bars = [float(LINEAR.alpha_bars[int(t)]) for t in times] + [1.0]
    for t, ab, after in zip(times, bars[:-1], bars[1:], strict=True):
        eps = bent_denoiser(x, t)
        x0 = (x - math.sqrt(1 - ab) * eps) / math.sqrt(ab)
        std = eta * math.sqrt((1 - after) / (1 - ab)) * math.sqrt(1 - ab / after)
        x = math.sqrt(after) * x0 + math.sqrt(1 - after - std**2) * eps
        x = x + std * draw() if std else x
    return x


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 7, 20, 250])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_equals_the_equation(spacing: Spacing, num_steps: int, eta: float) -> None:
    solver = DDIM(LINEAR, ddim_times(spacing, num_steps), eta)
    noise = make_noise()
    expected = plain_ddim(noise, solver.times, eta, Tape(noise))
    torch.testing.assert_close(
        solver.sample(bent_denoiser, noise, Tape(noise)), expected, rtol=1e-8, atol=1e-8
    )


def test_ddim_with_all_its_noise_is_ddpm() -> None:
    times = ddim_times("linspace", 20)
    noise = make_noise()
    torch.testing.assert_close(
        DDIM(LINEAR, times, 1.0).sample(bent_denoiser, noise, Tape(noise)),
        DDPM(LINEAR, times, "fixed_small").sample(bent_denoiser, noise, Tape(noise)),
    )


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("num_steps", [10, 50])
def test_ddim_equals_diffusers_where_its_update_is_the_same(
    spacing: Spacing, num_steps: int
) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=True)
    scheduler.alphas_cumprod = LINEAR.alpha_bars
    scheduler.set_timesteps(num_steps)
    x = make_noise()
    tape = Tape(x)
    for t in scheduler.timesteps:
        last = t == scheduler.timesteps[-1]
        x = scheduler.step(
            bent_denoiser(x, float(t)),
            t,
            x,
            eta=0.6,
            variance_noise=torch.zeros_like(x) if last else tape(),
        ).prev_sample
    solver = DDIM(LINEAR, ddim_times(spacing, num_steps), 0.6)
    assert solver.times == tuple(scheduler.timesteps.tolist())
    noise = make_noise()
    samples = solver.sample(bent_denoiser, noise, Tape(noise))
    torch.testing.assert_close(samples, x, rtol=1e-5, atol=1e-5)


def test_ddim_of_diffusers_is_another_solver_with_linspace() -> None:
    # It steps to t - 1000 // N and not to the next timestep, so noise is left in the images.
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        clip_sample=False, timestep_spacing="linspace", set_alpha_to_one=True
    )
    scheduler.set_timesteps(10)
    x = make_noise()
    for t in scheduler.timesteps:
        x = scheduler.step(bent_denoiser(x, float(t)), t, x).prev_sample
    solver = DDIM(LINEAR, ddim_times("linspace", 10))
    assert solver.times == tuple(scheduler.timesteps.tolist())
    samples = solver.sample(bent_denoiser, make_noise())
    assert float((samples - x).abs().max() / samples.abs().max()) > 0.05


def test_ddim_follows_the_flow_with_order_1() -> None:
    steps = (20, 40, 80, 160)
    errors = [flow_error(DDIM(LINEAR, ddim_times("linspace", n)), None) for n in steps]
    assert 0.8 < slope(steps, errors) < 1.3


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_samples_the_data(eta: float) -> None:
    mean, std = moments(DDIM(LINEAR, ddim_times("linspace", 1000), eta))
    assert abs(mean - MEAN) < 2e-3
    assert abs(std / STD - 1) < 0.02
