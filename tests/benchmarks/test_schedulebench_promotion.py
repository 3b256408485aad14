"""Half a fine-tune for all, the rest for the best."""

from __future__ import annotations

import numpy as np
import pytest
from toy_table import make_table

from benchmarks.schedulebench import promotion
from benchmarks.schedulebench.problems import TableProblem
from schedsearch.exceptions import ConfigError


def test_ranks_peel_one_front_after_the_other() -> None:
    points = [(1.0, 3.0), (2.0, 2.0), (2.0, 4.0), (3.0, 3.0), (4.0, 5.0)]
    assert promotion.ranks(points) == [0, 0, 1, 1, 2]


def test_promotion_spends_its_budget_and_prefers_the_front() -> None:
    problem = TableProblem(make_table())
    costs = promotion.Costs(0.6, 0.6)
    every = list(problem.space.enumerate())
    promoted = promotion.run_promoting(problem, every[::-1], costs, 6.0, 2)
    assert len(promoted) == len(set(promoted)) == 3  # 7 at the rung, 3 of them promoted
    assert promotion.rank_correlation(problem.table) == pytest.approx(1.0)
    assert promotion.run_promoting(problem, every, costs, 0.5, 2) == []


def test_promotion_needs_a_table_that_was_measured_half_way() -> None:
    with pytest.raises(ConfigError, match="half-way"):
        promotion.Costs.of(make_table(rung_fid=np.zeros(0, dtype=np.float32)))
    costs = promotion.Costs.of(make_table())
    assert costs.rung == costs.promotion == pytest.approx(0.6)
