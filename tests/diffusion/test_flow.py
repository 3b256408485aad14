"""Flow matching as a process: path, targets, times that are fed and times of training."""

import pytest
import torch

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.losses import TrainingLoss, mse
from schedsearch.diffusion.process import build_process
from schedsearch.settings import DiffusionSettings, NetworkTime, Prediction

TIMES: tuple[NetworkTime, ...] = ("sigma", "sigma1000", "sit")
PREDICTIONS: tuple[Prediction, ...] = ("velocity", "x0", "eps")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_path_is_a_straight_line_from_data_to_noise() -> None:
    process = FlowProcess("sigma")
    x0, noise = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    t = torch.tensor([0.0, 250.0, 700.0, 1000.0])
    x_t = process.q_sample(x0, t, noise)
    for i, sigma in enumerate((0.0, 0.25, 0.7, 1.0)):
        torch.testing.assert_close(x_t[i], (1 - sigma) * x0[i] + sigma * noise[i])


@pytest.mark.parametrize("time", TIMES)
def test_the_velocity_of_sit_points_to_the_data_and_the_others_to_the_noise(
    time: NetworkTime,
) -> None:
    x0, noise = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    expected = x0 - noise if time == "sit" else noise - x0
    assert torch.equal(FlowProcess(time).target(x0, torch.tensor([3.0, 900.0]), noise), expected)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_velocity_and_noise_are_found_back_from_every_target(
    time: NetworkTime, prediction: Prediction
) -> None:
    settings = DiffusionSettings(process="flow", time=time, prediction=prediction)
    process = build_process(settings)
    x0, noise = torch.randn(2, 1, 3, 3).double(), torch.randn(2, 1, 3, 3).double()
    for t in (1.0, 420.0, 999.0):
        times = torch.full((2,), t)
        x_t, target = process.q_sample(x0, times, noise), process.target(x0, times, noise)
        torch.testing.assert_close(process.velocity_from(target, x_t, t), noise - x0)
        torch.testing.assert_close(process.eps_from(target, x_t, t), noise)


def test_a_velocity_is_finite_at_both_ends_and_the_others_say_where_they_are_not() -> None:
    x = torch.randn(2, 1, 2, 2)
    for t in (0.0, 1000.0):
        assert torch.equal(FlowProcess("sigma").velocity_from(x, x, t), x)
    assert torch.equal(FlowProcess("sit").velocity_from(x, x, 1000.0), -x)
    with pytest.raises(ValueError, match=r"prediction of x0 has no velocity at t=0\.0"):
        FlowProcess("sit", "x0").velocity_from(x, x, 0.0)
    with pytest.raises(ValueError, match=r"prediction of eps has no velocity at t=1000\.0"):
        FlowProcess("sit", "eps").velocity_from(x, x, 1000.0)


def test_networks_are_fed_as_their_code_does() -> None:
    clock = torch.tensor([1000.0, 999.0, 400.0, 50.0, 0.0])
    fed = {time: FlowProcess(time).network_time(clock) for time in TIMES}
    assert fed["sigma1000"].tolist() == clock.tolist()
    torch.testing.assert_close(fed["sigma"], torch.tensor([1.0, 0.999, 0.4, 0.05, 0.0]))
    torch.testing.assert_close(fed["sit"], torch.tensor([0.0, 0.001, 0.6, 0.95, 1.0]))
    assert FlowProcess("sigma").network_time(torch.tensor([500])).tolist() == [0.5]
    # The times of SiT's sampler, k / n, to the last bit.
    times = torch.tensor([1000.0 * (20 - k) / 20 for k in range(20)])
    assert FlowProcess("sit").network_time(times).tolist() == [
        float(torch.tensor(k / 20)) for k in range(20)
    ]


@pytest.mark.parametrize("time", TIMES)
def test_training_times_are_uniform_on_the_clock(time: NetworkTime) -> None:
    times = FlowProcess(time).draw_times(20_000, generator())
    assert times.dtype == torch.float32
    assert 0 <= float(times.min()) < 1
    assert 999 < float(times.max()) <= 1000
    for share in (0.1, 0.5, 0.9):
        assert float((times < 1000 * share).float().mean()) == pytest.approx(share, abs=0.02)


def test_logit_normal_times_lie_in_the_middle_and_the_shift_moves_them_to_the_noise() -> None:
    # Quantiles of a standard normal: 0.8413 lies at 1, whose sigmoid is 0.7311.
    plain = FlowProcess("sigma", times="logit_normal").draw_times(40_000, generator())
    shifted = FlowProcess("sigma", times="logit_normal", shift=3.0).draw_times(40_000, generator())
    level = torch.tensor([0.1587, 0.5, 0.8413])
    expected = torch.tensor([0.2689, 0.5, 0.7311])
    torch.testing.assert_close(torch.quantile(plain / 1000, level), expected, atol=0.01, rtol=0)
    moved = 3 * expected / (1 + 2 * expected)
    torch.testing.assert_close(torch.quantile(shifted / 1000, level), moved, atol=0.01, rtol=0)


def test_training_stays_where_the_target_says_something_about_the_velocity() -> None:
    times = {p: FlowProcess("sit", p).draw_times(50_000, generator()) for p in PREDICTIONS}
    assert float(times["x0"].min()) == 1.0
    assert float(times["eps"].max()) == 999.0
    assert float(times["velocity"].min()) < 0.1
    assert float(times["velocity"].max()) > 999.9


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_squared_error_of_the_velocity(prediction: Prediction) -> None:
    process = FlowProcess("sigma", prediction)
    x0, noise, output = torch.randn(3, 4, 1, 2, 2).double()[:3].unbind(0)[:3]
    t = torch.tensor([100.0, 500.0, 900.0, 940.0])
    x_t = process.q_sample(x0, t, noise)
    found = TrainingLoss("auto", process, learns_variance=False)(output, x0, t, noise)
    velocity = torch.cat(
        [process.velocity_from(output[i : i + 1], x_t[i : i + 1], float(t[i])) for i in range(4)]
    )
    assert list(found) == ["mse"]
    torch.testing.assert_close(
        found["mse"], mse(velocity, noise - x0), check_dtype=False, rtol=1e-5, atol=0
    )


def test_the_loss_of_other_targets_stays_bounded_at_the_ends() -> None:
    for prediction, t in (("x0", 1.0), ("eps", 999.0)):
        weights = FlowProcess("sigma", prediction).loss_weights(torch.tensor([t]))  # type: ignore[arg-type]
        assert weights is not None
        assert float(weights) == pytest.approx(400.0)


def test_times_and_noise_levels_are_each_others_inverse() -> None:
    process = FlowProcess("sit")
    for t in (0.1, 37.4, 500.0, 998.5):
        sigma = t / 1000
        expected = torch.log(torch.tensor((1 - sigma) / sigma, dtype=torch.float64))
        assert process.half_log_snr(t) == pytest.approx(float(expected), rel=1e-9)
        assert process.time_at_half_log_snr(process.half_log_snr(t)) == pytest.approx(t, rel=1e-7)
    assert process.alpha_bar(500.0) == pytest.approx(0.5)
