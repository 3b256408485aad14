"""What a table of ScheduleBench holds, what it charges, and what a score is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from toy_table import make_table

from benchmarks.schedulebench.__main__ import main
from benchmarks.schedulebench.problems import TableProblem
from benchmarks.schedulebench.replay import reported, score
from benchmarks.schedulebench.runner import (
    open_problem,
)
from benchmarks.schedulebench.tables import FOLDER, Table
from schedsearch.exceptions import ConfigError
from schedsearch.pareto import hypervolume
from schedsearch.schedules.exit_schedule import ExitSchedule


def test_a_table_survives_the_disk(tmp_path: Path) -> None:
    table = make_table()
    table.save(tmp_path / "toy.npz")
    again = Table.load(tmp_path / "toy.npz")
    for item in dataclasses.fields(Table):
        assert np.array_equal(getattr(again, item.name), getattr(table, item.name)), item.name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem)
def test_tables_that_ship_are_whole_and_small(path: Path) -> None:
    table = Table.load(path)
    problem = TableProblem(table, next(iter(table.error_tables)))
    assert path.stem == problem.name
    assert path.stat().st_size < 500_000
    assert table.fid.shape[1] == len(table.protocol["seeds"]) >= 3
    assert 0 < problem.best_hypervolume < math.prod(problem.reference)


def test_an_incomplete_or_foreign_table_is_refused(tmp_path: Path) -> None:
    table = make_table()
    with pytest.raises(ValueError, match="holds 14 schedules in 14 rows, of 15"):
        dataclasses.replace(
            table,
            depths=table.depths[1:],
            fid=table.fid[1:],
            latency_ms=table.latency_ms[1:],
        )
    with pytest.raises(ValueError, match="fid needs positive values"):
        make_table(fid=np.full((15, 2), np.nan, dtype=np.float32))
    np.savez(tmp_path / "other.npz", depths=table.depths)
    with pytest.raises(ConfigError, match="no table of ScheduleBench"):
        Table.load(tmp_path / "other.npz")
    with pytest.raises(ConfigError, match="make --help"):
        Table.load(tmp_path / "none.npz")


def test_nothing_pickled_is_ever_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, depths=np.array([object()], dtype=object))
    with pytest.raises(ConfigError, match="allow_pickle"):
        Table.load(path)


def test_reference_point_is_full_depth_and_the_capped_shallowest() -> None:
    problem = TableProblem(make_table())
    fid, latency = problem.reference
    assert latency == pytest.approx(1.01 * (10 + 7 * 9))
    assert fid == pytest.approx(3 * 0.4, rel=1e-6)  # the shallowest has 1.8
    assert problem.fixed_blocks == pytest.approx(
        # latency is 10 + sum w d; over level numbers the line through both ends meets 0 here
        (10 + 7 * 2) / (7 * (9 - 2) / (7 * 2)) - 7
    )


def test_score_is_the_truth_of_what_looked_best() -> None:
    """Observed values choose the reported points, true ones are scored."""
    table = make_table()
    fid = table.fid.copy()
    full = ExitSchedule((3, 3, 3, 3))
    near = ExitSchedule((3, 3, 3, 2))
    rows = {s: TableProblem(table).row(s) for s in (full, near)}
    fid[rows[full]] = (5.0, 0.1)  # bad luck at seed 0, good at seed 1; mean 2.55
    problem = TableProblem(dataclasses.replace(table, fid=fid))
    assert reported(problem, [full, near], seed=0) == [near]
    assert set(reported(problem, [full, near], seed=1)) == {full, near}
    assert problem.truth(full)[0] == pytest.approx(2.55)
    every = list(problem.space.enumerate())
    points = [problem.truth(s) for s in every]
    assert problem.best_hypervolume == pytest.approx(hypervolume(points, problem.reference))
    assert score(problem, [near], 0) == pytest.approx(
        hypervolume([problem.truth(near)], problem.reference) / problem.best_hypervolume
    )
    assert score(TableProblem(table), every, 0) == pytest.approx(1.0)
    assert score(TableProblem(table), [], 0) == 0.0


def test_score_does_not_change_when_objectives_are_scaled_to_0_1() -> None:
    problem = TableProblem(make_table())
    some = list(problem.space.enumerate())[2:6]
    ideal = [min(problem.truth(s)[k] for s in problem.space.enumerate()) for k in (0, 1)]
    span = [problem.reference[k] - ideal[k] for k in (0, 1)]

    def scaled(schedules: Sequence[ExitSchedule]) -> float:
        points = [
            tuple((problem.truth(s)[k] - ideal[k]) / span[k] for k in (0, 1)) for s in schedules
        ]
        return hypervolume(points, (1.0, 1.0))  # type: ignore[arg-type]

    expected = scaled(reported(problem, some, 0)) / scaled(list(problem.space.enumerate()))
    assert score(problem, some, 0) == pytest.approx(expected)


def test_tables_are_charged_at_their_cost_rounded_up() -> None:
    problem = TableProblem(make_table())
    assert problem.charge(error_table=False) == 1  # 4 of 10 seconds
    assert problem.charge(error_table=True) == 3  # 29 of 10 seconds


def test_a_shared_fine_tune_is_charged_to_none_and_shown() -> None:
    shared = {"shared_seconds": 123.0, "shared_seconds_clock": "CPU, one thread"}
    problem = TableProblem(make_table(protocol=shared))
    assert problem.charge(error_table=False) == 1
    assert problem.charge(error_table=True) == 3
    assert problem.not_charged is not None
    assert "123 s (CPU, one thread) or 13 trials" in problem.not_charged
    assert TableProblem(make_table()).not_charged is None


def test_an_error_table_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table().save(tmp_path / "toy.npz")
    space = ["--space", str(tmp_path / "toy.npz"), "--seeds", "1", "--trials", "5", "--jobs", "1"]
    wrong = ["--proposers", "uniform", "--error-table", "nope"]  # who does not even use it
    assert main([*space, "--json", *wrong]) == 2
    assert "no error table 'nope', but uniform; name one" in capsys.readouterr().err
    assert main(["--space", "synthetic", "--error-table", "uniform", "--trials", "5"]) == 2
    assert "leave out --error-table uniform" in capsys.readouterr().err
    make_table(error_tables={}).save(tmp_path / "toy.npz")
    open_problem.cache_clear()
    assert main([*space, "--proposers", "ours"]) == 2
    assert "no error table None, but none" in capsys.readouterr().err


def test_the_first_error_table_is_the_default() -> None:
    one = make_table().error_tables["uniform"]
    other = dataclasses.replace(one, exits="pretrained")
    problem = TableProblem(make_table(error_tables={"pretrained": other, "uniform": one}))
    assert problem.error_table(0) == other
    assert dataclasses.replace(problem, errors="uniform").error_table(0) == one
