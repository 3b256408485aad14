"""The final report as a whole."""

import io

from driving import settings_of
from made_up_runs import confirmed, large_run, results_of
from rich.console import Console

from schedsearch.report.final import print_report
from schedsearch.runs.costs import Costs, StageCost
from schedsearch.runs.results import RunResults

COSTS = Costs(wall_seconds=65.0, stages={"trials": StageCost(jobs=3, device_seconds=90.0)})


def report_of(results: RunResults, *, width: int = 150, whole_front: bool = False) -> str:
    text = io.StringIO()
    print_report(
        Console(file=text, width=width, markup=False),
        results,
        "runs/tiny",
        costs=COSTS,
        whole_front=whole_front,
    )
    return text.getvalue()


def test_its_parts_in_their_order() -> None:
    shown = report_of(results_of(confirmed({1: 4.0, 2: 3.0})))
    parts = (
        "Hypervolume of the front",
        "Pareto front of tiny",
        "Against the hand-made schedules",
        "Searched schedules beat D2-DiT",
        "Each was fine-tuned once",
        "Time: 1 min 05 s, 1 min 30 s on workers: trials 100%.",
        "Next: schedsearch pick runs/tiny --knee",
    )
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    assert shown.rstrip().splitlines()[-1] == parts[-1]


def test_it_fits_100_columns_and_a_screen() -> None:
    shown = report_of(large_run(28, full_ms=1234.5))
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert len(shown.splitlines()) <= 45
    assert "2 more: schedsearch front" in shown
    assert "more: schedsearch front" not in report_of(large_run(28), whole_front=True)


def test_the_next_command_is_never_broken() -> None:
    assert "Next: schedsearch pick runs/tiny --knee" in report_of(results_of(), width=20)


def test_without_presets_there_is_one_table() -> None:
    results = results_of()
    alone = RunResults(results.settings, results.records[2:3], None, [])
    shown = report_of(alone)
    assert "Against" not in shown
    assert "Hypervolume" not in shown
    assert "trial 2" in shown


def test_nothing_is_said_of_nothing() -> None:
    assert report_of(RunResults(settings_of(), [], None, [])) == ""
