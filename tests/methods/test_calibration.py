"""Thresholds for a wanted share of full depth's time."""

import math
from collections.abc import Callable

import pytest

from schedsearch.methods.calibration import MISSED, calibrate, calibrate_measured


def counted(share: Callable[[float], float]) -> tuple[Callable[[float], float], list[float]]:
    """A measurement, and the thresholds that it was asked for."""
    asked: list[float] = []

    def measure(threshold: float) -> float:
        asked.append(threshold)
        return share(threshold)

    return measure, asked


@pytest.mark.parametrize("target", [0.3, 0.55, 0.8])
@pytest.mark.parametrize("increasing", [True, False])
def test_a_smooth_share_is_met(target: float, increasing: bool) -> None:
    def share(threshold: float) -> float:
        rises = 0.1 + 0.9 * math.sqrt(threshold / 4)
        return rises if increasing else 1.1 - rises

    measure, asked = counted(share)
    found = calibrate(measure, target, low=0.0, high=4.0, increasing=increasing)
    assert abs(found.reached - target) <= 0.01
    assert found.reached == share(found.threshold)
    assert found.num_calls == len(asked) <= 12
    assert found.note == ""
    assert min(asked) >= 0
    assert max(asked) <= 4


@pytest.mark.parametrize("tolerance", [0.2, 0.001])
def test_the_search_ends_within_the_tolerance(tolerance: float) -> None:
    measure, asked = counted(lambda threshold: threshold)
    found = calibrate(measure, 0.7, low=0, high=1, increasing=True, tolerance=tolerance)
    assert abs(found.threshold - 0.7) <= tolerance
    assert all(abs(threshold - 0.7) > tolerance for threshold in asked[:-1])


@pytest.mark.parametrize("increasing", [True, False])
def test_a_share_that_jumps_takes_the_nearer_side_and_says_so(increasing: bool) -> None:
    def share(threshold: float) -> float:
        return 0.9 if (threshold > 0.37) == increasing else 0.4

    measure, asked = counted(share)
    found = calibrate(measure, 0.6, low=0, high=1, increasing=increasing, max_calls=9)
    assert found.reached == 0.4
    assert share(found.threshold) == 0.4
    assert found.num_calls == len(asked) == 9
    assert found.note == (
        "the target 0.6 is not reached, the nearest share is 0.40: the method jumps between "
        "shares there"
    )


def test_a_small_jump_needs_no_note() -> None:
    def share(threshold: float) -> float:
        return 0.6 + MISSED - 0.001 if threshold > 0.5 else 0.4

    assert calibrate(share, 0.6, low=0, high=1, increasing=True).note == ""


@pytest.mark.parametrize(("target", "reached", "more"), [(0.2, 0.5, "less"), (0.9, 0.7, "more")])
def test_a_target_beyond_the_thresholds_says_so(target: float, reached: float, more: str) -> None:
    found = calibrate(lambda t: 0.5 + 0.2 * t, target, low=0, high=1, increasing=True)
    assert found.reached == pytest.approx(reached, abs=0.001)
    assert found.note == (
        f"the target {target:g} is not reached, the nearest share is {reached:.2f}: no threshold "
        f"that was tried takes {more} time"
    )


@pytest.mark.parametrize("increasing", [True, False])
def test_the_measured_share_meets_the_target_where_decisions_cost_time(increasing: bool) -> None:
    def predict(threshold: float) -> float:
        return threshold if increasing else 1 - threshold

    timed, asked = counted(lambda threshold: 1.2 * predict(threshold) + 0.02)
    found = calibrate_measured(predict, timed, 0.75, low=0, high=1, increasing=increasing)
    assert abs(found.reached - 0.75) <= 0.03
    assert found.reached == timed(found.threshold)
    assert predict(found.threshold) < 0.65
    assert found.note == ""
    assert len(asked) <= 4


def test_a_prediction_that_holds_is_timed_once() -> None:
    predict, predicted = counted(lambda threshold: threshold)
    timed, asked = counted(lambda threshold: threshold + 0.01)
    found = calibrate_measured(predict, timed, 0.6, low=0, high=1, increasing=True)
    assert len(asked) == 1
    assert found.num_calls == len(predicted) == len(set(predicted))


def test_a_target_below_what_decisions_cost_says_so() -> None:
    found = calibrate_measured(
        lambda t: 0.1 + 0.9 * t, lambda t: 0.8 + 0.1 * t, 0.5, low=0, high=1, increasing=True
    )
    assert found.note == (
        f"the target 0.5 is not reached, the nearest measured share is {found.reached:.2f}, "
        f"with {0.1 + 0.9 * found.threshold:.2f} by the blocks alone"
    )
