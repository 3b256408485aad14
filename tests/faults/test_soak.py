"""Random kills of drivers and workers, counted by CPU time."""

from pathlib import Path

import pytest
from forks import ForkedCli  # noqa: F401 - this module forks, see conftest
from soak import COUNTS, soak, totals


@pytest.mark.slow
def test_twenty_random_kills_cost_nothing(tmp_path: Path) -> None:
    counts = tmp_path / "soak.jsonl"
    for kills in (10, 20):  # the second call goes on
        soak(kills, counts, seed=1, kinds=("local, 2 workers",))
    sums = totals(counts)
    assert sums["driver_kills"] + sums["worker_kills"] >= 20
    assert not any(sums[name] for name in COUNTS[2:]), counts.read_text()
