import subprocess
import sys

import torch

from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

T = torch.arange(0, 1000, dtype=torch.float32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_schedule_exits_take_each_time_on_its_own() -> None:
    schedule = ExitSchedule((10, 9, 8, 7, 6, 5, 4, 3, 2, 1))
    source = generator()
    before = source.get_state()
    depths = ScheduleExits(schedule)(T, source)
    assert depths.dtype == torch.int64
    assert depths.tolist() == [schedule.depth_at(t) for t in T.tolist()]
    assert torch.equal(before, source.get_state())  # draws nothing


def test_random_schedule_exits_follow_the_space() -> None:
    space = SearchSpace(1, 3, num_intervals=2)  # 6 schedules: 11 21 22 31 32 33
    rule = RandomScheduleExits(space)
    t = torch.tensor([0.0, 999.0]).repeat(3000)
    depths = rule(t, generator()).view(-1, 2)
    near_data = torch.bincount(depths[:, 0], minlength=4)[1:] / 3000
    near_noise = torch.bincount(depths[:, 1], minlength=4)[1:] / 3000
    expected = torch.tensor([1 / 6, 2 / 6, 3 / 6])
    assert bool(((near_data - expected).abs() < 0.04).all())
    assert bool(((near_noise - expected.flip(0)).abs() < 0.04).all())


def test_the_generator_decides() -> None:
    rule = RandomScheduleExits(SearchSpace(1, 9))
    source = generator(1)
    first, second = rule(T, source), rule(T, source)
    assert not torch.equal(first, second)
    assert torch.equal(first, rule(T, generator(1)))
    assert not torch.equal(first, rule(T, generator(2)))


def test_import_is_light() -> None:
    code = "import sys, schedsearch.schedules.exit_rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
