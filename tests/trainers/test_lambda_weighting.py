import pytest
import torch

from schedsearch.settings import LambdaSettings
from trainers.lambda_weighting import LambdaWeighting

MIDDLES = torch.arange(10) * 100.0 + 50


def test_linear_over_the_ten_intervals() -> None:
    weighting = LambdaWeighting(LambdaSettings(kind="linear", max=4.0, until=1.0), 100)
    expected = [1 + 3 * interval / 9 for interval in range(10)]
    assert weighting.weights(MIDDLES, 1).tolist() == pytest.approx(expected)
    edges = torch.tensor([0.0, 99.9, 100.0, 899.0, 900.0, 999.0, 1000.0])
    intervals = [0, 0, 1, 8, 9, 9, 9]
    assert weighting.weights(edges, 1).tolist() == pytest.approx([expected[i] for i in intervals])


def test_it_goes_by_the_number_of_the_interval() -> None:
    edges = (0.0, 250.0, 429.0, 562.0, 667.0, 750.0, 818.0, 875.0, 923.0, 964.0, 1000.0)
    settings = LambdaSettings(kind="linear", max=4.0, until=1.0)
    times = torch.tensor([0.0, 249.0, 250.0, 922.0, 963.9, 964.0, 1000.0])
    expected = [1 + 3 * interval / 9 for interval in (0, 0, 1, 7, 8, 9, 9)]
    weights = LambdaWeighting(settings, 100, edges).weights(times, 1)
    assert weights.tolist() == pytest.approx(expected)
    two = LambdaWeighting(settings, 100, (0.0, 300.0, 1000.0)).weights(times, 1)
    assert two.tolist() == pytest.approx([1, 1, 1, 4, 4, 4, 4])


@pytest.mark.parametrize(("until", "last"), [(0.0, 0), (0.5, 50), (1.0, 100)])
def test_back_to_one_after_a_fraction_of_the_steps(until: float, last: int) -> None:
    weighting = LambdaWeighting(LambdaSettings(max=3.0, until=until), 100)
    weighted = [step for step in range(1, 101) if weighting.weights(MIDDLES, step).max() > 1]
    assert weighted == list(range(1, last + 1))


def test_none() -> None:
    weighting = LambdaWeighting(LambdaSettings(kind="none", max=4.0, until=1.0), 100)
    assert weighting.weights(MIDDLES, 1).tolist() == [1.0] * 10


def run(weighting: LambdaWeighting, losses: list[float], start: int = 1) -> list[tuple[int, str]]:
    notes = []
    for step, loss in enumerate(losses, start):
        if (line := weighting.observe(step, loss)) is not None:
            notes.append((step, line))
    return notes


def test_plateau_ends_it_once_and_says_so() -> None:
    weighting = LambdaWeighting(LambdaSettings(until="plateau"), 100)  # windows of 10 steps
    falling = [1 / step for step in range(1, 31)]
    assert run(weighting, falling) == []
    assert weighting.weights(MIDDLES, 31).max() == 4.0
    notes = run(weighting, [0.02] * 70, start=31)
    assert [step for step, _ in notes] == [50]  # 31-40 is below 21-30, 41-50 is as 31-40
    assert "lambda(t) is 1" in notes[0][1]
    assert weighting.weights(MIDDLES, 51).max() == 1.0
    run(weighting, [0.001] * 10)
    assert weighting.weights(MIDDLES, 99).max() == 1.0  # and stays


def test_two_percent_per_window_is_progress() -> None:
    weighting = LambdaWeighting(LambdaSettings(until="plateau"), 100)
    losses = [0.98 ** (step // 10) for step in range(100)]
    assert run(weighting, losses) == []


def test_state_goes_on_alike() -> None:
    losses = [1 / step for step in range(1, 31)] + [0.02] * 70
    whole = LambdaWeighting(LambdaSettings(until="plateau"), 100)
    expected = run(whole, losses)
    for cut in (7, 35, 60):
        first = LambdaWeighting(LambdaSettings(until="plateau"), 100)
        notes = run(first, losses[:cut])
        second = LambdaWeighting(LambdaSettings(until="plateau"), 100)
        second.load_state_dict(first.state_dict())
        assert notes + run(second, losses[cut:], start=cut + 1) == expected
