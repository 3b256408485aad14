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


def test_the_spread_of_a_table_is_moderated_by_the_others() -> None:
    loud, quiet = np.array([[0.0], [3.0], [6.0]]), np.array([[1.0], [-1.0], [1.0]])
    alone = nested_interval(loud).half_width
    together = nested_intervals([loud, loud + 1.0])  # they say the same: nothing is learned
    assert [one.half_width for one in together] == pytest.approx([alone, alone])
    # Sums of squares 18 and 8 / 3, orthogonal: Box's factor is their squared sum over the sum of
    # their squares.
    box = (18 + 8 / 3) ** 2 / (18**2 + (8 / 3) ** 2)
    prior = 2 * (box - 1)
    t = stdtrit(2 + prior, 0.975)
    squares = [(own + prior * (18 + 8 / 3) / 2 / 2) / (2 + prior) for own in (18, 8 / 3)]
    found = nested_intervals([loud, quiet])
    assert [one.mean for one in found] == pytest.approx([3.0, 1 / 3])
    assert [one.half_width for one in found] == pytest.approx(
        [t * (square / 3) ** 0.5 for square in squares]
    )


def test_others_never_count_for_more_than_three_seeds() -> None:
    rng = np.random.default_rng(0)
    tables = list(rng.normal(size=(8, 20, 1)))
    squares = np.array([float(((table - table.mean()) ** 2).sum()) for table in tables])
    moderated = (squares + 2 * squares.mean() / 19) / 21
    expected = stdtrit(21, 0.975) * (moderated / 20) ** 0.5
    found = nested_intervals(tables)
    assert [one.half_width for one in found] == pytest.approx(list(expected))


def test_tables_without_any_spread() -> None:
    one, two = nested_intervals([np.ones((3, 5)), np.zeros((3, 5))])
    assert (one.mean, one.half_width, two.half_width) == (1.0, 0.0, 0.0)
    tiny = 1e-200 * np.arange(6.0).reshape(3, 2)
    assert nested_intervals([tiny, tiny])[0].half_width < 1e-199


@pytest.mark.parametrize("together", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("loudest", [1.0, 4.0])
def test_coverage_of_four_comparisons_with_common_seeds(together: float, loudest: float) -> None:
    """Of every table, whether or not the same seeds are bad for all of them."""
    rng = np.random.default_rng(1)
    repeats, covered, halves, alone = 500, np.zeros(4), [], []
    spreads = np.array([0.6, 0.7, 0.9, loudest])[:, None, None]
    for _ in range(repeats):
        train = together * rng.normal(size=(1, 3, 1))
        train = train + (1 - together**2) ** 0.5 * rng.normal(size=(4, 3, 1))
        shared = 0.5 * rng.normal(size=(4, 1, 5))
        tables = list(spreads * (train + shared + 0.3 * rng.normal(size=(4, 3, 5))))
        found = nested_intervals(tables)
        covered += [abs(one.mean) <= one.half_width for one in found]
        halves += [one.half_width for one in found]
        alone += [nested_interval(table).half_width for table in tables]
    assert covered.mean() / repeats > 0.94
    assert covered.min() / repeats > 0.92
    if loudest == 1.0 and together < 1.0:
        assert np.quantile(halves, 0.9) < 0.9 * np.quantile(alone, 0.9)


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
