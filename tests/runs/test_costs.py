"""Where the time of a run went: kept in its folder, and shown stage by stage."""

from pathlib import Path

import pytest

from schedsearch.exceptions import StorageError
from schedsearch.runs.costs import CONFIRMATION, TRIALS, Costs, used_budget
from schedsearch.runs.folder import RunFolder


def some_costs() -> Costs:
    costs = Costs(wall_seconds=80.0, in_flight_seconds=10.0)
    costs.of(TRIALS).jobs = 3
    costs.of(TRIALS).device_seconds = 70.0
    costs.of(CONFIRMATION).jobs = 2
    costs.of(CONFIRMATION).device_seconds = 20.0
    costs.of(CONFIRMATION).wall_seconds = 12.0
    return costs


def test_costs_are_kept_and_a_new_run_has_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert Costs.load(folder) == Costs()
    some_costs().save(folder)
    assert Costs.load(folder) == some_costs()


@pytest.mark.parametrize(
    "text", ["damaged", "[]", '{"wall_seconds": 1, "in_flight_seconds": 0, "stages": {"a": 1}}']
)
def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.costs_file.write_text(text)
    with pytest.raises(StorageError, match=r"costs\.json.*Delete it"):
        Costs.load(folder)


def test_every_stage_has_a_line_with_its_share(tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in some_costs().lines()]
    assert lines == [
        "trials: 3 jobs 1 min 10 s device 70% - wall",
        "confirmation: 2 jobs 20.0 s device 20% 12.0 s wall",
        "running: 0 jobs 10.0 s device 10% - wall",
        "all stages: 5 jobs 1 min 40 s device 100% 1 min 20 s wall",
    ]


def test_a_budget_is_shown_beside_what_is_used() -> None:
    costs = some_costs()
    assert used_budget(costs, None, None) == "1 min 20 s wall-clock, 0.03 device-hours"
    assert used_budget(costs, 3600.0, 2.0) == "1 min 20 s of 1 h 00 min, 0.03 of 2 device-hours"
