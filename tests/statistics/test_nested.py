"""Differences over training and evaluation seeds."""

import numpy as np
import pytest
from scipy.special import stdtrit

from schedsearch.statistics.intervals import mean_interval
from schedsearch.statistics.nested import nested_interval, nested_intervals


def test_independent_rows_are_a_t_interval_over_their_means() -> None:
    table = np.array([[1.0, 3.0], [2.0, 4.0], [6.0, 8.0]])
    mean, (low, high) = mean_interval([2.0, 3.0, 7.0])
    found = nested_interval(table, crossed=False)
    assert found.mean == pytest.approx(mean)
    assert found.interval == pytest.approx((low, high))


def test_a_column_effect_is_noise_too() -> None:
    """Equal rows: no fine-tune differs, but the five evaluation seeds do."""
    row = [0.0, 1.0, 2.0, 3.0, 4.0]
    found = nested_interval([row] * 3)
    _, (low, high) = mean_interval(row)
    assert found.interval == pytest.approx((low, high))
    assert nested_interval([row] * 3, crossed=False).half_width == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("train", "shared", "rest"), [(1.0, 0.0, 1.0), (0.3, 1.0, 0.5), (0, 0, 1), (1.0, 1.0, 0.1)]
)
def test_coverage_of_three_by_five(train: float, shared: float, rest: float) -> None:
    """What 95 % promises, and not bought by width: no table of 1,000 gives an endless interval."""
    rng = np.random.default_rng(0)
    repeats, covered, naive, halves = 1000, 0, 0, []
    for _ in range(repeats):
        table = train * rng.normal(size=(3, 1)) + shared * rng.normal(size=(1, 5))
        table = table + rest * rng.normal(size=(3, 5))
        found = nested_interval(table)
        covered += abs(found.mean) <= found.half_width
        halves.append(found.half_width)
        low, high = mean_interval(table.ravel().tolist())[1]
        naive += low <= 0 <= high
    assert 0.93 < covered / repeats < 0.985
    # t of two degrees of freedom times the spread of the mean, and of the largest of 1,000.
    spread = 4.302653 * (train**2 / 3 + shared**2 / 5 + rest**2 / 15) ** 0.5
    assert np.median(halves) < 1.25 * spread
    assert max(halves) < 4 * spread
    if train or shared:
        assert naive / repeats < 0.9  # what it is there to prevent


def test_an_estimate_near_zero_keeps_the_degrees_of_its_smaller_side() -> None:
    """Satterthwaite's formula gives 0.02 degrees of freedom here, and t of 1e33."""
    rng = np.random.default_rng(0)
    halves = [nested_interval(rng.normal(size=(3, 5))).half_width for _ in range(5000)]
    assert max(halves) < 5  # times the spread of one cell


def test_tables_share_their_spread() -> None:
    """The mean of their mean squares, with the degrees of freedom of both where they differ."""
    quiet, loud = np.zeros((3, 1)), np.array([[0.0], [3.0], [6.0]])
    loud_alone = nested_interval(loud).half_width
    one, two = nested_intervals([quiet, loud])
    assert (one.mean, two.mean) == (0.0, 3.0)
    assert one.half_width == two.half_width == pytest.approx(loud_alone / 2**0.5)
    same = nested_intervals([loud, loud + 1.0])  # move together: no degree of freedom more
    assert same[0].half_width == same[1].half_width == pytest.approx(loud_alone)
    across = nested_intervals([loud, np.array([[3.0], [-3.0], [3.0]])])  # orthogonal, 18 and 24
    trace, squares = 18.0 + 24.0, 18.0**2 + 24.0**2
    t = stdtrit(2 * trace**2 / squares, 0.975)
    assert across[0].half_width == pytest.approx(t * (trace / 4 / 3) ** 0.5)


@pytest.mark.parametrize("together", [0.0, 0.6, 1.0])
def test_coverage_of_four_comparisons_with_common_seeds(together: float) -> None:
    """As of one alone, and narrower: whether or not the same seeds are bad for all of them."""
    rng = np.random.default_rng(1)
    repeats, covered, halves, alone = 500, 0, [], []
    spreads = np.array([0.5, 0.8, 1.1, 1.2])[:, None, None]
    for _ in range(repeats):
        train = together * rng.normal(size=(1, 3, 1))
        train = train + (1 - together**2) ** 0.5 * rng.normal(size=(4, 3, 1))
        shared = 0.5 * rng.normal(size=(4, 1, 5))
        tables = list(spreads * (train + shared + 0.3 * rng.normal(size=(4, 3, 5))))
        found = nested_intervals(tables)
        covered += sum(abs(one.mean) <= one.half_width for one in found)
        halves.append(found[0].half_width)
        alone += [nested_interval(table).half_width for table in tables]
    assert 0.93 < covered / (4 * repeats) < 0.99
    assert np.quantile(halves, 0.9) < np.quantile(alone, 0.9)


def test_verdicts() -> None:
    assert nested_interval([[-1.0, -1.1], [-1.0, -0.9]]).verdict == "better"
    assert nested_interval([[1.0, 1.1], [1.0, 0.9]]).verdict == "worse"
    assert nested_interval([[1.0, 1.0], [-1.0, -1.0]]).verdict == "no difference"


def test_tables_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of one shape, but got \(2, 1\)"):
        nested_intervals([[[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0]]])


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [1.0, 2.0], [[1.0], [float("nan")]]])
def test_what_is_refused(table: list[object]) -> None:
    with pytest.raises(ValueError, match="T >= 2"):
        nested_interval(table)
