"""Scores, charges and replays of ScheduleBench, on small spaces whose truth is known."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest

from benchmarks.schedulebench import promotion, report
from benchmarks.schedulebench.__main__ import main
from benchmarks.schedulebench.problems import TableProblem
from benchmarks.schedulebench.replay import replay, reported, score
from benchmarks.schedulebench.runner import ProblemSpec, evaluations, run_all, warm_starts
from benchmarks.schedulebench.synthetic import NOISE_SD, SyntheticProblem
from benchmarks.schedulebench.tables import FOLDER, Table
from schedsearch.exceptions import ConfigError
from schedsearch.pareto import hypervolume
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedule import ExitSchedule
from schedsearch.space import SearchSpace

LEVELS, WEIGHTS = (2, 5, 9), (1, 2, 2, 2)


def make_table(**changes: object) -> Table:
    """Four intervals, three levels: 15 schedules; blocks near the data matter most."""
    order = list(itertools.combinations_with_replacement((9, 5, 2), 4))
    lost = np.array(
        [[(9 - d) * w for d, w in zip(row, (4, 3, 2, 1), strict=True)] for row in order]
    )
    truth = 0.4 + 0.02 * lost.sum(1)
    errors = ErrorTable(
        depths=(1, 2, 3),
        losses=tuple(tuple(0.01 * w * (9 - d) for d in LEVELS) for w in (4, 3, 2, 1)),
        standard_errors=((0.0,) * 3,) * 4,
        exits="uniform",
        num_steps=400,
        num_images=8,
        seed=0,
        seconds=25.0,
    )
    values: dict[str, object] = {
        "name": "toy",
        "levels": LEVELS,
        "weights": WEIGHTS,
        "depths": np.array(order, dtype=np.int8),
        "fid": np.stack([truth - 0.1, truth + 0.1], axis=1).astype(np.float32),
        "rung_fid": (2 * truth).astype(np.float32),
        "latency_ms": np.array(
            [10 + sum(w * d for w, d in zip(WEIGHTS, row, strict=True)) for row in order],
            dtype=np.float32,
        ),
        "error_tables": {"uniform": errors},
        "costs": {"trial": 10.0, "latency": 4.0, "fine_tune": 8.0, "sample": 2.0},
        "protocol": {"num_samples": 500},
    }
    return Table(**{**values, **changes})  # type: ignore[arg-type]


def test_a_table_survives_the_disk(tmp_path: Path) -> None:
    table = make_table()
    table.save(tmp_path / "toy.npz")
    again = Table.load(tmp_path / "toy.npz")
    for item in dataclasses.fields(Table):
        assert np.array_equal(getattr(again, item.name), getattr(table, item.name)), item.name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem)
def test_tables_that_ship_are_whole_and_small(path: Path) -> None:
    problem = TableProblem(Table.load(path), None)
    assert path.stem == problem.name
    assert path.stat().st_size < 500_000
    assert problem.table.fid.shape[1] >= 3
    assert 0 < problem.best_hypervolume < math.prod(problem.reference)


def test_an_incomplete_or_foreign_table_is_refused(tmp_path: Path) -> None:
    table = make_table()
    with pytest.raises(ValueError, match="holds 14 schedules in 14 rows, of 15"):
        dataclasses.replace(
            table,
            depths=table.depths[1:],
            fid=table.fid[1:],
            rung_fid=table.rung_fid[1:],
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


def test_a_replay_evaluates_different_schedules_only_and_stops_at_the_budget() -> None:
    problem = TableProblem(make_table())
    found = replay(problem, _Stubborn(), seed=0, budget=6)
    assert len(found) == len(set(found)) == 6
    assert found[0] == ExitSchedule((3, 3, 3, 3))
    # It proposes the same ever again; ten known ones in a row, then one by chance.
    assert len(replay(problem, _Stubborn(), seed=0, budget=99)) == 15


def test_warm_starts_and_seeds_come_first_and_carry_their_labels() -> None:
    problem, sampler = TableProblem(make_table()), _Stubborn()
    full, seed = ExitSchedule((3, 3, 3, 3)), ExitSchedule((3, 2, 1, 1))
    found = replay(problem, sampler, 0, 3, seeds=[seed], labelled=[("full", full)])
    assert found[:2] == [full, seed]
    assert sampler.seen[0] == [("full", [3, 3, 3, 3]), (None, [3, 2, 1, 1])]


class _Stubborn(optuna.samplers.BaseSampler):
    """Always proposes full depth."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[object, object]]] = []

    def infer_relative_search_space(self, study, trial):  # type: ignore[no-untyped-def]
        return {}

    def sample_relative(self, study, trial, search_space):  # type: ignore[no-untyped-def]
        if "fixed_params" not in trial.system_attrs:
            done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
            self.seen.append([(t.user_attrs.get("label"), t.user_attrs["depths"]) for t in done])
        return {}

    def sample_independent(self, study, trial, name, distribution):  # type: ignore[no-untyped-def]
        return distribution.high


def test_the_synthetic_front_is_exact_and_its_noise_is_the_seeds() -> None:
    problem = SyntheticProblem(space=SearchSpace(1, 28, 10))
    rng = np.random.default_rng(0)
    some = [problem.space.sample(rng) for _ in range(300)]
    points = [problem.truth(s) for s in some]
    assert hypervolume(points, problem.reference) < problem.best_hypervolume
    assert problem.observe(some[0], 3) == problem.observe(some[0], 3)
    assert problem.observe(some[0], 3) != problem.observe(some[0], 4)
    logs = [np.log(problem.observe(s, 1)[0] / problem.truth(s)[0]) for s in some]
    assert np.std(logs) == pytest.approx(NOISE_SD, rel=0.2)
    assert problem.error_table(1).losses != problem.error_table(2).losses


def test_budgets_are_prefixes_of_one_run_less_the_charge(tmp_path: Path) -> None:
    make_table().save(tmp_path / "toy.npz")
    spec = ProblemSpec(space=str(tmp_path / "toy.npz"))
    found = evaluations(spec, "stratified", 0, [4, 8])
    assert [len(found[b]) for b in (4, 8)] == [3, 7]  # one trial for the latency table
    assert found[8][:3] == found[4]
    assert found[4][0] == ExitSchedule((3, 3, 3, 3))
    assert len(evaluations(spec, "dp_seeds", 0, [8])[8]) <= 5  # three for both tables
    assert evaluations(spec, "dp_seeds", 0, [2])[2] == []


def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    make_table().save(tmp_path / "toy.npz")
    spec = ProblemSpec(space=str(tmp_path / "toy.npz"))
    alone, both = (
        run_all(spec, ["uniform", "tpe"], 2, [5], jobs=jobs, note=print) for jobs in (1, 2)
    )
    assert alone == both


def test_warm_starts_are_the_presets_of_the_network_without_doubles() -> None:
    problem = SyntheticProblem()
    named = warm_starts(problem, "presets")
    assert [name for name, _ in named] == ["full", "D2-DiT", "D3-DiT", "D4-DiT", "D7-DiT"]
    assert warm_starts(problem, "full") == named[:1]
    assert warm_starts(problem, "none") == []


def test_json_is_pure_and_holds_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_table().save(tmp_path / "toy.npz")
    flags = ["--space", str(tmp_path / "toy.npz"), "--seeds", "2", "--trials", "9", "--jobs", "1"]
    proposers = ["--proposers", "ours", "uniform", "dp_seeds"]
    assert main([*flags, "--json", *proposers]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"ours", "uniform", "dp_seeds"}
    assert all(0 < value <= 1 for value in found.values())
    assert main([*flags, *proposers, "--plot", str(tmp_path / "plot.png")]) == 0
    assert "ours - second" in capsys.readouterr().out
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_wrong_space_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", "nothing"]) == 2
    assert main(["--space", "nothing.npz"]) == 2
    assert main(["--seeds", "0"]) == 2
    assert capsys.readouterr().err.count("error:") == 3


def test_a_space_that_is_too_easy_is_reported() -> None:
    assert report.warning({"uniform": {30: [0.96, 0.97]}}, "toy") is not None
    assert report.warning({"uniform": {30: [0.90, 0.92]}}, "toy") is None
    assert report.warning({"uniform": {60: [0.99]}}, "toy") is None


def test_the_difference_to_the_second_is_paired() -> None:
    luck = np.array([0.0, 0.2, 0.4, 0.6])
    scores = {
        "ours": {9: (luck + np.array([0.031, 0.030, 0.029, 0.030])).tolist()},
        "tpe": {9: luck.tolist()},
        "uniform": {9: (luck - 0.1).tolist()},
    }
    assert report.against_second(scores, 9).startswith("+3.0 ± 0.1 (tpe): better")


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
