"""Singlestep DPM-Solver ("fast") equals the papers' algorithms; what diffusers does instead."""

import itertools
import math
from typing import Any

import pytest
import torch
from gaussian_data import bent_denoiser, flow_error, make_noise, observed_order
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.diffusion.solvers.dpm_singlestep import SinglestepDPMSolver, orders_of_updates
from schedsearch.protocols import Solver
from schedsearch.settings import SolverSettings

LINEAR, VP = DDPMProcess(), VPProcess()
ALGORITHMS = ("dpmsolver++", "dpmsolver")


def build(process: NoiseProcess, num_steps: int, **options: Any) -> Solver:
    settings = SolverSettings(
        name="dpm_solver", method="singlestep", num_steps=num_steps, **options
    )
    return build_solver(settings, process)


@pytest.mark.parametrize(
    ("num_steps", "order", "orders"),
    [
        (5, 1, (1, 1, 1, 1, 1)),
        (4, 2, (2, 2)),
        (5, 2, (2, 2, 1)),
        (4, 3, (3, 1)),
        (5, 3, (3, 2)),
        (6, 3, (3, 2, 1)),
        (25, 3, (3,) * 8 + (1,)),
        (50, 3, (3,) * 16 + (2,)),
        (51, 3, (3,) * 16 + (2, 1)),
    ],
)
def test_orders_sum_to_the_calls(num_steps: int, order: int, orders: tuple[int, ...]) -> None:
    assert orders_of_updates(num_steps, order) == orders


def vp_log_alpha(s: float) -> float:
    return -(s**2) * (20 - 0.1) / 4 - 0.1 * s / 2


def vp_lambda(s: float) -> float:
    log_alpha = vp_log_alpha(s)
    return log_alpha - 0.5 * math.log(1 - math.exp(2 * log_alpha))


def vp_time(value: float) -> float:
    """Inverts vp_lambda by bisection."""
    low, high = 1e-9, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if vp_lambda(middle) > value else (low, middle)
    return low


def plain_fast(num_steps: int, order: int, calls: list[float]) -> Tensor:
    """DPM-Solver, Algorithms 1 and 2, on equal steps in lambda from s = 1 to 1e-4."""

    def eps(x: Tensor, s: float) -> Tensor:
        calls.append(1000 * s)
        return bent_denoiser(x, 1000 * s)

    def alpha(s: float) -> float:
        return math.exp(vp_log_alpha(s))

    def sigma(s: float) -> float:
        return math.sqrt(1 - alpha(s) ** 2)

    orders = orders_of_updates(num_steps, order)
    first, last = vp_lambda(1.0), vp_lambda(1e-4)
    grid = [vp_time(first + (last - first) * i / len(orders)) for i in range(len(orders))]
    x = make_noise()
    for k, s, t in zip(orders, grid, [*grid[1:], 1e-4], strict=True):
        h = vp_lambda(t) - vp_lambda(s)
        e = eps(x, s)
        if k == 1:
            x = alpha(t) / alpha(s) * x - sigma(t) * math.expm1(h) * e
        elif k == 2:
            s1 = vp_time(vp_lambda(s) + h / 2)
            u = alpha(s1) / alpha(s) * x - sigma(s1) * math.expm1(h / 2) * e
            x = alpha(t) / alpha(s) * x - sigma(t) * math.expm1(h) * eps(u, s1)
        else:
            r1, r2 = 1 / 3, 2 / 3
            s1, s2 = vp_time(vp_lambda(s) + r1 * h), vp_time(vp_lambda(s) + r2 * h)
            u1 = alpha(s1) / alpha(s) * x - sigma(s1) * math.expm1(r1 * h) * e
            d1 = eps(u1, s1) - e
            u2 = (
                alpha(s2) / alpha(s) * x
                - sigma(s2) * math.expm1(r2 * h) * e
                - sigma(s2) * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
            )
            d2 = eps(u2, s2) - e
            x = (
                alpha(t) / alpha(s) * x
                - sigma(t) * math.expm1(h) * e
                - sigma(t) / r2 * (math.expm1(h) / h - 1) * d2
            )
    return x


@pytest.mark.parametrize(("num_steps", "order"), [(7, 1), (8, 2), (25, 3), (50, 3), (51, 3)])
def test_equals_the_algorithms_of_dpm_solver(num_steps: int, order: int) -> None:
    # 25 and 50 with order 3 are U-ViT's settings.
    calls: list[float] = []
    expected = plain_fast(num_steps, order, calls)
    solver = build(VP, num_steps, order=order, algorithm="dpmsolver")
    assert solver.times == pytest.approx(calls, rel=1e-9)
    torch.testing.assert_close(
        solver.sample(bent_denoiser, make_noise()), expected, rtol=1e-7, atol=1e-7
    )


def test_in_the_data_equals_the_integral_of_what_is_fitted() -> None:
    # DPM-Solver++, Prop. 4.1, for one update of order 3: the line through the first and the
    # newest prediction, integrated numerically.
    solver = SinglestepDPMSolver(VP, 4, order=3, algorithm="dpmsolver++", end_time=100.0)
    seen: list[tuple[Tensor, float]] = []

    def denoiser(x: Tensor, t: float) -> Tensor:
        seen.append((x, t))
        return bent_denoiser(x, t)

    solver.sample(denoiser, make_noise())
    data = []
    for x, t in seen:
        bar = VP.alpha_bar(t)
        data.append((x - math.sqrt(1 - bar) * bent_denoiser(x, t)) / math.sqrt(bar))
    lam = [VP.half_log_snr(t) for _, t in seen]
    assert lam[1] - lam[0] == pytest.approx((lam[3] - lam[0]) / 3)
    assert lam[2] - lam[0] == pytest.approx((lam[3] - lam[0]) * 2 / 3)
    for reached, newest in ((1, 0), (2, 1), (3, 2)):
        grid = torch.linspace(lam[0], lam[reached], 20001, dtype=torch.float64)
        slope = (data[newest] - data[0]) / (lam[newest] - lam[0]) if newest else 0 * data[0]
        kernel = torch.exp(grid)
        sigmas = [math.sqrt(1 - VP.alpha_bar(seen[i][1])) for i in (0, reached)]
        expected = sigmas[1] / sigmas[0] * seen[0][0] + sigmas[1] * (
            torch.trapezoid(kernel, grid) * data[0]
            + torch.trapezoid(kernel * (grid - lam[0]), grid) * slope
        )
        torch.testing.assert_close(seen[reached][0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("process", [VP, LINEAR], ids=["vp", "linear"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("order", "above", "below"), [(1, 0.9, 1.1), (2, 1.8, 2.2), (3, 2.4, 4)])
def test_order_of_convergence(
    process: NoiseProcess, algorithm: str, order: int, above: float, below: float
) -> None:
    # With these numbers the last update of order 3 is of order 2 and does not spoil the order.
    steps = (80, 161, 320)
    end = 0.1 if process is VP else 0.0
    errors = [flow_error(build(process, n, order=order, algorithm=algorithm), end) for n in steps]
    assert above < observed_order(steps, errors) < below


def test_ends_with_the_noise_of_its_end_time() -> None:
    # U-ViT takes x at s = 1e-4 for the sample: nothing is denoised there.
    for process, end, sigma in ((VP, 0.1, 0.0033), (LINEAR, 0.0, 0.01)):
        bar = process.alpha_bar(end)
        assert math.sqrt(1 - bar) == pytest.approx(sigma, rel=0.05)
        noise = make_noise()
        solver = build(process, 50, order=3, algorithm="dpmsolver")
        # A denoiser that always finds the same noise: the flow of a point mass at 0.
        samples = solver.sample(lambda x, t, noise=noise: noise, noise)
        start = process.alpha_bar(solver.times[0])
        x0 = (1 - math.sqrt(1 - start)) * noise / math.sqrt(start)
        exact = math.sqrt(bar) * x0 + math.sqrt(1 - bar) * noise
        torch.testing.assert_close(samples, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:__array__ implementation")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("order", [2, 3])
def test_diffusers_on_our_points(algorithm: str, order: int) -> None:
    # On points like ours (which it cannot be asked for) its order 2 is the same and its
    # order 3 differs: inside an update it uses the midpoint rule where Algorithm 2 has phi_2.
    from diffusers import DPMSolverSinglestepScheduler

    solver = build(VP, 41, order=order, algorithm=algorithm)
    scheduler = DPMSolverSinglestepScheduler(
        solver_order=order,
        algorithm_type=algorithm,
        final_sigmas_type="sigma_min",
        lower_order_final=True,
    )
    scheduler.set_timesteps(41)
    grid = torch.tensor([*solver.times, 0.1], dtype=torch.float64)
    scheduler.sigmas = torch.expm1(-VP.log_alpha_bars(grid)).sqrt()
    scheduler.order_list = list(
        itertools.chain.from_iterable(range(1, k + 1) for k in orders_of_updates(41, order))
    )
    scheduler.set_begin_index(0)
    x = make_noise()
    for t in solver.times:
        x = scheduler.step(bent_denoiser(x, t), t, x).prev_sample
    difference = float((solver.sample(bent_denoiser, make_noise()) - x).abs().max())
    assert difference < 1e-9 if order == 2 else 1e-5 < difference < 0.1


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:__array__ implementation")
def test_third_order_of_diffusers_is_lost_on_whole_timesteps() -> None:
    """Why singlestep is our own: its points inside an update are not at thirds in lambda."""
    from diffusers import DPMSolverSinglestepScheduler

    steps, errors, ours = (60, 120, 240), [], []
    for num_steps in steps:
        scheduler = DPMSolverSinglestepScheduler(
            solver_order=3,
            algorithm_type="dpmsolver++",
            final_sigmas_type="sigma_min",
            lower_order_final=True,
        )
        scheduler.alphas_cumprod = LINEAR.alpha_bars.numpy()
        scheduler.set_timesteps(num_steps)
        timesteps = [float(t) for t in scheduler.timesteps]

        class Theirs:
            process, times = LINEAR, timesteps

            def sample(self, denoiser: Any, noise: Tensor) -> Tensor:
                x = noise
                for t in self.times:
                    x = scheduler.step(denoiser(x, t), int(t), x).prev_sample  # noqa: B023
                return x

        errors.append(flow_error(Theirs(), 0.0))  # type: ignore[arg-type]
        ours.append(flow_error(build(LINEAR, num_steps, order=3), 0.0))
    assert observed_order(steps, errors) < 2.5
    assert ours[-1] < 0.05 * errors[-1]
