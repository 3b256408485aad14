import math

import pytest
import torch
from torch import Tensor

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.losses import TrainingLoss, mse
from schedsearch.diffusion.process import DDPMProcess, VPProcess
from schedsearch.diffusion.variational import VariationalBound
from schedsearch.exceptions import ConfigError

TIMES = (0, 1, 2, 50, 500, 998, 999)
PREDICTIONS = ("eps", "v", "x0")


def linear_betas() -> list[float]:
    return [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]


def cosine_betas() -> list[float]:
    def bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - bar((t + 1) / 1000) / bar(t / 1000), 0.999) for t in range(1000)]


def batch(num: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Images with pixels on the 8-bit grid, black and white included; noise; an output."""
    generator = torch.Generator().manual_seed(num)
    levels = torch.randint(256, (num, 2, 3, 3), generator=generator)
    levels[:, 0, 0, 0], levels[:, 0, 0, 1] = 0, 255
    x0 = (levels.double() / 127.5 - 1).to(dtype)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64).to(dtype)
    output = torch.randn((num, 4, 3, 3), generator=generator, dtype=torch.float64).to(dtype)
    return x0, noise, 0.5 * output


def bound_written_out(
    betas: list[float], prediction: str, t: int, x0: Tensor, noise: Tensor, output: Tensor
) -> Tensor:
    """Bits per dimension of one image by DDPM, Eq. 6-7 and Improved DDPM, Eq. 4-7 and 15."""
    bars = [math.prod(1 - beta for beta in betas[: s + 1]) for s in range(t + 1)]
    bar, previous = bars[t], bars[t - 1] if t else 1.0
    alpha, sigma = math.sqrt(bar), math.sqrt(1 - bar)
    x_t = alpha * x0 + sigma * noise
    mean_half, v = output[:2].detach(), output[2:]  # the bound does not train the mean
    x0_hat = {
        "eps": (x_t - sigma * mean_half) / alpha,
        "v": alpha * x_t - sigma * mean_half,
        "x0": mean_half,
    }[prediction]

    def posterior_mean(start: Tensor) -> Tensor:
        return (
            math.sqrt(previous) * betas[t] * start + math.sqrt(1 - betas[t]) * (1 - previous) * x_t
        ) / (1 - bar)

    clipped = max(t, 1)  # the posterior variance at t = 0 is 0
    at = math.prod(1 - beta for beta in betas[: clipped + 1])
    before = math.prod(1 - beta for beta in betas[:clipped])
    beta_tilde = (1 - before) / (1 - at) * betas[clipped]
    share = (v + 1) / 2
    variance = torch.exp(share * math.log(betas[t]) + (1 - share) * math.log(beta_tilde))
    mean = posterior_mean(x0_hat)
    if t > 0:
        gap = posterior_mean(x0) - mean
        kl = 0.5 * (torch.log(variance / beta_tilde) + (beta_tilde + gap**2) / variance - 1)
        return kl.mean() / math.log(2)
    normal = torch.distributions.Normal(mean, variance.sqrt())
    upper = torch.where(x0 > 0.999, 1.0, normal.cdf(x0 + 1 / 255))
    lower = torch.where(x0 < -0.999, 0.0, normal.cdf(x0 - 1 / 255))
    return -torch.log(upper - lower).mean() / math.log(2)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("betas", ["linear", "cosine"])
def test_hybrid_loss_and_gradient_against_the_equations(betas: str, prediction: str) -> None:
    process = DDPMProcess(betas, prediction)  # type: ignore[arg-type]
    x0, noise, output = batch(len(TIMES))
    # At t = 0 close to the truth: in the far tail a bin counts as 1e-12 (see below).
    t = torch.tensor(TIMES)
    output[0, :2] = process.target(x0, t, noise)[0] + 0.01 * output[0, :2]
    ours, theirs = (output.clone().requires_grad_() for _ in range(2))

    terms = TrainingLoss("hybrid", process, learns_variance=True)(ours, x0, t, noise)
    table = linear_betas() if betas == "linear" else cosine_betas()
    expected = []
    for i, time in enumerate(TIMES):
        bar = math.prod(1 - beta for beta in table[: time + 1])
        alpha, sigma = math.sqrt(bar), math.sqrt(1 - bar)
        target = {"eps": noise[i], "x0": x0[i], "v": alpha * noise[i] - sigma * x0[i]}[prediction]
        bits = bound_written_out(table, prediction, time, x0[i], noise[i], theirs[i])
        expected.append(torch.stack([(theirs[i, :2] - target).square().mean(), bits]))
    wanted = torch.stack(expected)

    torch.testing.assert_close(terms["mse"], wanted[:, 0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(terms["vlb"], wanted[:, 1], rtol=1e-7, atol=1e-10)
    weights = torch.arange(1.0, len(TIMES) + 1, dtype=torch.float64)
    (sum(terms.values()) * weights).sum().backward()  # type: ignore[union-attr]
    (wanted.sum(1) * weights).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-10)


def test_the_bound_trains_the_variance_alone() -> None:
    x0, noise, output = batch(3)
    output.requires_grad_()
    bits = VariationalBound(DDPMProcess())(output, x0, torch.tensor([0, 3, 700]), noise)
    bits.sum().backward()
    assert output.grad is not None
    assert torch.equal(output.grad[:, :2], torch.zeros_like(x0))
    assert bool((output.grad[1:, 2:] != 0).all())


def test_the_best_variance_for_a_perfect_mean_is_the_posterior_one() -> None:
    """v = -1 is beta~ (Improved DDPM, Eq. 15), where the KL vanishes."""
    process = DDPMProcess()
    x0, noise, _ = batch(2)
    t = torch.tensor([10, 900])
    bound = VariationalBound(process)
    bits = [
        bound(torch.cat([noise, torch.full_like(noise, v)], dim=1), x0, t, noise)
        for v in (-1.1, -1.0, 1.0)
    ]
    assert bits[1].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert bool((bits[0] > 0).all())
    assert bool((bits[2] > 0).all())


def test_probabilities_of_all_grey_levels_add_up() -> None:
    """The bins at t = 0 cover the line: exp(-nll) over all 256 levels sums to 1."""
    process = DDPMProcess()
    levels = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(256, 1, 1, 1)
    alpha, sigma = (scale.item() for scale in process.scales(torch.tensor(0)))
    x_t = torch.full_like(levels, 0.995)
    noise = (x_t - alpha * levels) / sigma  # one x_t, seen as coming from every level
    output = torch.tensor([0.3, 0.5], dtype=torch.float64).view(1, 2, 1, 1).expand(256, 2, 1, 1)
    bits = VariationalBound(process)(output, levels, torch.zeros(256, dtype=torch.long), noise)
    assert float((2.0**-bits).sum()) == pytest.approx(1.0, abs=1e-9)


def test_float32_is_close_and_finite_everywhere() -> None:
    x0, noise, output = batch(1000)
    t = torch.arange(1000)
    for prediction in PREDICTIONS:
        bound = VariationalBound(DDPMProcess("linear", prediction))
        single = output.float().requires_grad_()
        bits = bound(single, x0.float(), t, noise.float())
        torch.testing.assert_close(
            bits.double(), bound(output, x0, t, noise), rtol=2e-4, atol=1e-5
        )
        bits.sum().backward()
        assert single.grad is not None
        assert bool(single.grad.isfinite().all())
    far = torch.full_like(output, 50.0).float().requires_grad_()
    bits = VariationalBound(DDPMProcess())(far, x0.float(), torch.zeros_like(t), noise.float())
    bits.sum().backward()
    assert far.grad is not None
    assert bool(bits.isfinite().all())
    assert bool(far.grad.isfinite().all())


def test_which_loss() -> None:
    process = DDPMProcess()
    x0, noise, output = batch(2)
    t = torch.tensor([5, 600])

    def terms(kind: str, learns_variance: bool) -> list[str]:
        loss = TrainingLoss(kind, process, learns_variance=learns_variance)
        return list(loss(output, x0, t, noise))

    assert terms("auto", True) == terms("hybrid", True) == ["mse", "vlb"]
    assert terms("auto", False) == terms("mse", False) == terms("mse", True) == ["mse"]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_mse_follows_the_prediction_of_a_continuous_process(prediction: str) -> None:
    process = VPProcess(prediction)  # type: ignore[arg-type]
    x0, noise, output = batch(2)
    t = torch.tensor([12.5, 640.25])
    [loss] = TrainingLoss("auto", process, learns_variance=False)(
        output[:, :2], x0, t, noise
    ).values()
    for i, s in enumerate(t.tolist()):
        alpha = math.exp(-(0.1 * s / 2000 + 19.9 * (s / 1000) ** 2 / 4))
        sigma = math.sqrt(1 - alpha**2)
        target = {"eps": noise[i], "x0": x0[i], "v": alpha * noise[i] - sigma * x0[i]}[prediction]
        error = (output[i, :2] - target).square().mean()
        assert float(loss[i]) == pytest.approx(float(error), rel=1e-9)


def test_what_hybrid_cannot_do() -> None:
    with pytest.raises(ConfigError, match=r"backbone has none .* set recipe.loss to mse or auto"):
        TrainingLoss("hybrid", DDPMProcess(), learns_variance=False)
    for kind in ("hybrid", "auto"):
        with pytest.raises(ConfigError, match=r"the process is vp; set recipe.loss to mse"):
            TrainingLoss(kind, VPProcess(), learns_variance=True)
        with pytest.raises(ConfigError, match=r"the process is flow; set recipe.loss to mse"):
            TrainingLoss(kind, FlowProcess("sit"), learns_variance=True)
    x0, noise, output = batch(1)
    loss = TrainingLoss("hybrid", DDPMProcess(), learns_variance=True)
    with pytest.raises(ConfigError, match=r"4 output channels.* but it has 2"):
        loss(output[:, :2], x0, torch.tensor([3]), noise)


def test_mse_ignores_a_variance_half() -> None:
    x0, _, output = batch(2)
    torch.testing.assert_close(mse(output, x0), (output[:, :2] - x0).square().mean((1, 2, 3)))
