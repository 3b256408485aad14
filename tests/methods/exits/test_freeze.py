"""The static twin of a dynamic method, and how much of its depth is time."""

import pytest
import torch
from torch import Tensor

from schedsearch.methods.exits.freeze import frozen_schedule, share_explained_by_time
from schedsearch.methods.exits.uncertainty import UncertaintyExit
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.methods.exits.exit_networks import JUDGED, NETS, inputs


def blocks(*calls: list[float]) -> list[Tensor]:
    return [torch.tensor(call) for call in calls]


def test_mean_depths_are_rounded_to_the_nearest() -> None:
    """Two calls in interval 9, one in 4 and one in 0, from noise to data."""
    run = blocks([1, 1, 2], [1, 1, 1], [3, 2, 2.5], [5, 5, 4])
    found = frozen_schedule(run, (999.0, 950.0, 449.0, 10.0), 5, 0)
    # Means 7 / 6, 2.5 and 14 / 3; intervals between take the nearest, 2 the one of the data.
    assert found == ExitSchedule((5, 5, 5, 3, 3, 3, 3, 1, 1, 1))


def test_blocks_that_always_run_are_no_depth() -> None:
    run = blocks([7, 7], [9, 10], [13, 13])
    found = frozen_schedule(run, (900.0, 500.0, 0.0), 6, 7, num_intervals=2)
    assert found == ExitSchedule((6, 1))
    # Exits in the encoder have no schedule: they become the shallowest.
    assert frozen_schedule(blocks([2, 3]), (500.0,), 6, 7) == ExitSchedule.flat(0)
    assert frozen_schedule(blocks([0.4]), (500.0,), 6, 0) == ExitSchedule.flat(1)


@pytest.mark.parametrize("name", NETS)
def test_the_twin_of_a_schedule_is_itself(name: str) -> None:
    """A method whose exit depends on the time alone."""
    net, batch = JUDGED[name], inputs(NETS[name])
    times = tuple(float(50 + 100 * i) for i in reversed(range(10)))
    recorded: list[Tensor] = []
    always = net.num_blocks - net.num_exit_blocks
    depths = (4, 4, 3, 3, 3, 2, 2, 1, 1, 1)
    with torch.no_grad():
        for clock in times:
            least = always + depths[int(clock // 100)]
            run = UncertaintyExit(threshold=1.1, min_blocks=least).begin(net, times, guided=False)
            run(*batch, clock=clock, step=0)
            recorded += run.blocks
    assert frozen_schedule(recorded, times, net.num_exit_blocks, always) == ExitSchedule(depths)
    assert share_explained_by_time(recorded) == 1.0


def test_share_of_time() -> None:
    assert share_explained_by_time(blocks([2, 2], [2, 2])) == 1.0
    assert share_explained_by_time(blocks([1, 3], [1, 3])) == 0.0
    # Between: 2 (0.5)^2 + 2 (0.5)^2 = 1; in all: 1.5^2 + 0.5^2 + 0.5^2 + 1.5^2 = 5.
    assert share_explained_by_time(blocks([1, 3], [2, 4])) == pytest.approx(0.2)
    # Batches of different size count by their samples.
    run = blocks([1, 2, 2, 3], [6])
    mean = 14 / 5
    between = 4 * (2 - mean) ** 2 + (6 - mean) ** 2
    assert share_explained_by_time(run) == pytest.approx(between / (between + 2))


def test_what_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match="one time per call"):
        frozen_schedule(blocks([1], [2]), (500.0,), 5, 0)
    with pytest.raises(ValueError, match="got 0 and 0"):
        frozen_schedule([], (), 5, 0)
    with pytest.raises(ValueError, match="at least one call"):
        share_explained_by_time([])


def test_the_intervals_may_have_edges() -> None:
    edges = (0.0, 250.0, 900.0, 1000.0)
    run = blocks([1, 1], [2, 2], [3, 3])
    found = frozen_schedule(run, (950.0, 899.0, 249.0), 5, 0, 3, edges)
    assert found == ExitSchedule((3, 2, 1), edges)
