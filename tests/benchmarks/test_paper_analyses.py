"""The papers' analyses: which rows they compare, and their networks."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from benchmarks.paper_analyses.analyses import D3, D7, FULL, SOLVERS, shapes_of
from benchmarks.paper_analyses.cases import solver
from benchmarks.paper_analyses.networks import OneInterval, PerInterval
from benchmarks.paper_analyses.parts import PARTS
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.schedules.exit_schedule import ExitSchedule

# ---- what is compared -------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_rows_have_distinct_names_and_groups_one_baseline(name: str, scale: float) -> None:
    rows = [m for case in PARTS[name].cases(scale) for m in case.measurements]
    assert max(Counter(row.key for row in rows).values()) == 1
    baselines = Counter(row.group for row in rows if row.is_baseline)
    assert baselines == dict.fromkeys({row.group for row in rows}, 1)


@pytest.mark.parametrize("depths", [D3, D7])
def test_shapes_spend_the_same(depths: tuple[int, ...]) -> None:
    shapes = shapes_of(depths)
    assert {sum(shape) for shape in shapes.values()} == {sum(depths)}
    assert len(set(shapes.values())) == 5
    for name in ("hump", "valley", "reversed"):
        assert sorted(shapes[name]) == sorted(depths)
    assert max(shapes["flat"]) - min(shapes["flat"]) <= 1
    hump, valley = shapes["hump"], shapes["valley"]
    assert hump.index(max(hump)) in (4, 5)
    assert valley.index(min(valley)) in (4, 5)


def test_solvers_visit_all_intervals_equally_so_that_budgets_are_equal() -> None:
    numbered = ExitSchedule(tuple(range(10)))
    for name, counts in SOLVERS:
        for num in counts:
            times = build_solver(solver(name, num), DDPMProcess()).times
            visits = Counter(numbered.visited(times))
            assert len(visits) == 10
            assert set(visits.values()) == {num // 10}, (name, num)


def test_solver_rows_share_one_network_per_schedule() -> None:
    cases = PARTS["solvers"].cases(1.0)
    assert [case.tuning.depths for case in cases] == [FULL, D3, D7]
    assert len({case.tuning.num_steps for case in cases}) == 1


def test_mixed_k_drops_blocks_where_the_tuned_network_runs_and_nowhere_else() -> None:
    rows = [m for case in PARTS["baselines"].cases(1.0) for m in case.measurements]
    mixed = [row for row in rows if row.tuned_interval is not None]
    assert [row.tuned_interval for row in mixed] == [1, 3, 5, 7, 9]
    for row in mixed:
        kept = [d for interval, d in enumerate(row.depths) if interval != row.tuned_interval]
        assert kept == [10] * 9
        assert row.tuned_interval is not None
        assert row.depths[row.tuned_interval] == D3[row.tuned_interval]


def test_experts_see_as_much_data_or_ten_times_as_much() -> None:
    cases = PARTS["baselines"].cases(1.0)
    steps = [case.tuning.num_steps for case in cases if case.tuning.kind == "experts"]
    assert steps == [10, 100]


# ---- networks and processes -------------------------------------------------------------------


def test_an_expert_is_trained_on_its_interval_only() -> None:
    generator = torch.Generator().manual_seed(0)
    process = OneInterval(3)
    times = process.draw_times(20_000, generator)
    assert (int(times.min()), int(times.max())) == (300, 399)
    assert abs(float(times.float().mean()) - 349.5) < 1
    t = torch.tensor([350])
    assert torch.equal(process.scales(t)[0], DDPMProcess().scales(t)[0])


@pytest.mark.parametrize(("interval", "num"), [(10, 10), (-1, 10), (0, 7)])
def test_intervals_that_do_not_exist_are_refused(interval: int, num: int) -> None:
    with pytest.raises(ValueError, match="There is no interval"):
        OneInterval(interval, num)


class Constant(torch.nn.Module):
    """Answers with its own number."""

    num_exit_blocks, in_shape, num_classes = 10, (1, 2, 2), None

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x, t, y, *, exit_depth):
        return torch.full_like(x, self.value + exit_depth)


def test_every_interval_has_its_network() -> None:
    net = PerInterval([Constant(100.0 * number) for number in range(10)])
    x = torch.zeros(2, 1, 2, 2)
    for time, number in ((0, 0), (99, 0), (100, 1), (550, 5), (999, 9)):
        found = net(x, torch.full((2,), time), None, exit_depth=3)
        assert float(found[0, 0, 0, 0]) == 100 * number + 3
    with pytest.raises(ValueError, match="one time per batch"):
        net(x, torch.tensor([1, 2]), None, exit_depth=3)
