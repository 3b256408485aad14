"""Seeds of the error table."""

import numpy as np
import pytest
from made_up_tables import noise_easy, table_of

from schedsearch.planning.cells import visited_excess
from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.seeds import seed_schedules, useful_front
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

SPACE = SearchSpace(2, 10, 10)
WEIGHTS = [2] * 10
TABLE = table_of(noise_easy(9), range(2, 11))


def blocks(depths: tuple[int, ...]) -> int:
    return sum(w * d for w, d in zip(WEIGHTS, depths, strict=True))


@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_seeds_are_optima_evenly_spread_along_the_useful_front(count: int) -> None:
    seeds = seed_schedules(TABLE, SPACE, WEIGHTS, count)
    assert len(set(seeds)) == count
    costs = [blocks(s.depths) for s in seeds]
    optima = {p.blocks: p.cost for p in optimal_front(noise_easy(9), SPACE, WEIGHTS)}
    losses = [noise_easy(9)[np.arange(10), np.array(s.depths) - 2].sum() for s in seeds]
    assert losses == pytest.approx([optima[c] for c in costs])
    assert costs == sorted(costs, reverse=True)
    assert all(c <= 40 + 0.9 * 160 for c in costs)
    shares = np.array(losses) / noise_easy(9)[:, 0].sum()
    assert shares.max() <= 0.3
    steps = -np.diff((np.array(costs) - 40) / 160 - np.sqrt(shares))
    assert len(steps) == 0 or steps.max() - steps.min() <= 0.06  # a block or two on either side


def test_one_seed_lies_in_the_middle() -> None:
    (one,) = seed_schedules(TABLE, SPACE, WEIGHTS, 1)
    middle = seed_schedules(TABLE, SPACE, WEIGHTS, 5)[2]
    assert abs(blocks(one.depths) - blocks(middle.depths)) <= 6


def test_a_warm_start_is_no_seed() -> None:
    """Nor is a schedule that differs from one only where the solver does not call."""
    weights = [2] * 9 + [0]
    plain = seed_schedules(TABLE, SPACE, weights, 5)
    twin = ExitSchedule((*plain[2].depths[:-1], plain[2].depths[-2]))
    assert twin not in plain
    seeds = seed_schedules(TABLE, SPACE, weights, 5, [twin, ExitSchedule.flat(3)])
    assert len(set(seeds)) == 5
    assert twin.depths[:-1] not in [seed.depths[:-1] for seed in seeds]
    assert abs(blocks(seeds[2].depths) - blocks(plain[2].depths)) <= 6  # a neighbour instead


def test_a_steep_end_gets_its_share_of_seeds() -> None:
    """One interval decides all: most of its gain lies in a tenth of the latencies."""
    excess = 0.01 * noise_easy(9)
    excess[0] += 5.0 * np.linspace(1, 0, 9)
    seeds = seed_schedules(table_of(excess, range(2, 11)), SPACE, WEIGHTS, 8)
    cheap = [s for s in seeds if blocks(s.depths) <= 40 + 0.15 * 160]
    assert len(cheap) >= 3


def test_no_seed_lies_where_the_table_explodes() -> None:
    """Fewer than seven of ten blocks ruin an interval; at most three may be ruined."""
    excess = noise_easy(9) + 50.0 * (np.arange(2, 11) < 7)
    seeds = seed_schedules(table_of(excess, range(2, 11)), SPACE, WEIGHTS, 8)
    assert max(sum(depth < 7 for depth in s.depths) for s in seeds) <= 3


def test_a_small_space_gives_what_it_has() -> None:
    space = SearchSpace(1, 2, 2)
    table = table_of(np.array([[1.0, 0.0], [0.3, 0.0]]), (1, 2))
    assert [s.depths for s in seed_schedules(table, space, [1, 1], 9)] == [(2, 1)]
    assert seed_schedules(table, space, [1, 1], 0) == []
    single = SearchSpace(2, 2, 2)
    assert seed_schedules(table_of(np.zeros((2, 1)), (2,)), single, [1, 1], 3) == []


def test_intervals_without_network_calls_decide_nothing() -> None:
    """The solver never sees the last interval, so its losses must not deepen the others."""
    excess = noise_easy(9)
    ruinous = excess.copy()
    ruinous[-1] *= 1000.0
    weights = [2] * 9 + [0]
    fronts = [
        [(p.blocks, p.cost) for p in useful_front(table_of(e, range(2, 11)), SPACE, weights)]
        for e in (excess, ruinous)
    ]
    assert fronts[0] == fronts[1]


def test_a_coarse_table_is_interpolated_and_a_foreign_one_refused() -> None:
    coarse = table_of(np.tile([4.0, 0.0], (10, 1)), (2, 10))
    assert visited_excess(coarse, SPACE, WEIGHTS)[0].tolist() == pytest.approx(
        [4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0]
    )
    with pytest.raises(ValueError, match="does not cover a space of 10 intervals and depths 1"):
        visited_excess(coarse, SearchSpace(1, 10, 10), WEIGHTS)
