"""The space of schedules: exact counts, exact uniformity, and the encoding."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import preset_for, presets
from schedsearch.schedules.space import Monotone, SearchSpace

SHAPES: list[Monotone] = ["nonincreasing", "free"]

small_spaces = st.builds(
    lambda low, levels, intervals, monotone: SearchSpace(
        low, low + levels - 1, intervals, monotone
    ),
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(SHAPES),
)
by_example = settings(derandomize=True, max_examples=60, deadline=None)


def brute_force(space: SearchSpace) -> set[ExitSchedule]:
    levels = range(space.min_depth, space.max_depth + 1)
    rows = map(ExitSchedule, itertools.product(levels, repeat=space.num_intervals))
    return {s for s in rows if space.monotone == "free" or s.is_nonincreasing}


@by_example
@given(small_spaces)
def test_enumeration_size_and_membership_agree(space: SearchSpace) -> None:
    every = list(space.enumerate())
    assert len(every) == len(set(every)) == space.size()
    assert set(every) == brute_force(space)
    assert all(schedule in space for schedule in every)


def test_sizes_of_the_papers_spaces() -> None:
    assert SearchSpace(1, 28).size() == math.comb(37, 10) == 348_330_136
    assert SearchSpace(1, 6).size() == 3003
    assert SearchSpace(2, 10).size() == 43_758
    assert SearchSpace(1, 3, 4, "free").size() == 81


@by_example
@given(small_spaces, st.integers(0, 2**32 - 1))
def test_encoding_round_trip(space: SearchSpace, seed: int) -> None:
    schedule = space.sample(np.random.default_rng(seed))
    params = space.to_params(schedule)
    assert list(params) == space.param_names()
    assert space.decode(params) == schedule


@by_example
@given(small_spaces, st.data())
def test_any_parameters_decode_into_the_space(space: SearchSpace, data: st.DataObject) -> None:
    depth = st.integers(space.min_depth, space.max_depth)
    params = {name: data.draw(depth) for name in space.param_names()}
    assert space.decode(params) in space


def test_suggest_uses_one_static_range_per_interval() -> None:
    class Fixed:
        def __init__(self, params: dict[str, int]) -> None:
            self.params = params

        def suggest_int(self, name: str, low: int, high: int) -> int:
            assert (low, high) == (2, 10)
            return self.params[name]

    space = SearchSpace(2, 10)
    for name in presets:
        schedule = preset_for(name, 10, min_depth=2)
        assert space.suggest(Fixed(space.to_params(schedule))) == schedule


def chi_square(counts: Counter[ExitSchedule], cells: int, draws: int) -> float:
    expected = draws / cells
    seen = sum((n - expected) ** 2 / expected for n in counts.values())
    return seen + (cells - len(counts)) * expected


@pytest.mark.parametrize("monotone", SHAPES)
def test_sampling_is_uniform(monotone: Monotone) -> None:
    space, draws = SearchSpace(1, 4, 3, monotone), 8000
    rng = np.random.default_rng(0)
    counts = Counter(space.sample(rng) for _ in range(draws))
    assert set(counts) == set(space.enumerate())
    cells = space.size()
    # Five standard deviations of a chi-square with cells - 1 degrees of freedom.
    assert chi_square(counts, cells, draws) < cells - 1 + 5 * math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("monotone", SHAPES)
@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 0, 3)])
def test_stratum_is_sampled_uniformly(monotone: Monotone, weights: tuple[int, ...]) -> None:
    space, draws, low, high = SearchSpace(1, 4, 3, monotone), 6000, 6, 9

    def blocks(schedule: ExitSchedule) -> int:
        return sum(w * d for w, d in zip(weights, schedule.depths, strict=True))

    stratum = {s for s in space.enumerate() if low <= blocks(s) <= high}
    rng = np.random.default_rng(1)
    drawn = (space.sample_with_blocks(rng, low, high, weights) for _ in range(draws))
    counts = Counter(s for s in drawn if s is not None)
    assert set(counts) == stratum
    cells = len(stratum)
    assert chi_square(counts, cells, draws) < cells - 1 + 5 * math.sqrt(2 * (cells - 1))


@by_example
@given(small_spaces, st.data())
def test_stratum_of_any_range(space: SearchSpace, data: st.DataObject) -> None:
    size = space.num_intervals
    weights = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    low = data.draw(st.integers(0, 40))
    high = low + data.draw(st.integers(0, 10))

    def blocks(schedule: ExitSchedule) -> int:
        return sum(w * d for w, d in zip(weights, schedule.depths, strict=True))

    stratum = {s for s in space.enumerate() if low <= blocks(s) <= high}
    drawn = space.sample_with_blocks(np.random.default_rng(0), low, high, weights)
    assert (drawn in stratum) if stratum else (drawn is None)


def test_stratum_of_the_papers_space_needs_no_enumeration() -> None:
    space, rng = SearchSpace(1, 28), np.random.default_rng(0)
    weights = (5,) * 10
    for low, high in ((50, 50), (700, 710), (1400, 1400), (50, 1400)):
        schedule = space.sample_with_blocks(rng, low, high, weights)
        assert schedule is not None
        assert schedule in space
        assert low <= 5 * sum(schedule.depths) <= high
    assert space.sample_with_blocks(rng, 51, 54, weights) is None
    with pytest.raises(ValueError, match="10 weights"):
        space.sample_with_blocks(rng, 0, 1, (1,))


def test_what_does_not_belong_is_said_in_words() -> None:
    space = SearchSpace(2, 10, 3)
    assert "has 2 intervals" in str(space.why_not(ExitSchedule((3, 2))))
    assert "interval 1 runs 11" in str(space.why_not(ExitSchedule((9, 11, 2))))
    assert "grows towards the noise" in str(space.why_not(ExitSchedule((3, 3, 4))))
    with pytest.raises(ValueError, match="not in the space"):
        space.to_params(ExitSchedule((3, 3, 4)))
    with pytest.raises(ValueError, match="min_depth"):
        SearchSpace(4, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("min_depth", value) for value in (2.0, "2", None, True)),
        *(("max_depth", value) for value in (10.5, np.float64(10))),
        *(("num_intervals", value) for value in (0, -1, 2.5, 10**9)),
        *(("monotone", value) for value in ("up", None, True)),
    ],
)
def test_an_argument_of_another_kind_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        SearchSpace(**{"min_depth": 2, "max_depth": 10, name: value})  # type: ignore[arg-type]


def test_integers_of_numpy_are_as_good() -> None:
    assert SearchSpace(np.int64(2), np.uint8(10), np.int32(5)) == SearchSpace(2, 10, 5)  # type: ignore[arg-type]
