"""Replays of ScheduleBench on small spaces whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from toy_table import make_table

from benchmarks.schedulebench import digits, kept_scores, runner
from benchmarks.schedulebench.__main__ import main
from benchmarks.schedulebench.kept_scores import KeptScores
from benchmarks.schedulebench.problems import TableProblem
from benchmarks.schedulebench.replay import replay
from benchmarks.schedulebench.runner import (
    ProblemSpec,
    Scores,
    evaluations,
    open_problem,
    run_all,
    warm_starts,
)
from benchmarks.schedulebench.synthetic import NOISE_SD, SyntheticProblem
from schedsearch.exceptions import ExitCode
from schedsearch.pareto import hypervolume
from schedsearch.planning.seeds import seed_schedules
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace


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


def test_ours_measures_as_many_seeds_of_the_error_table_as_asked(tmp_path: Path) -> None:
    make_table().save(tmp_path / "toy.npz")
    none, two = (
        ProblemSpec(space=str(tmp_path / "toy.npz"), warm_starts="none", dp_seeds=n)
        for n in (0, 2)
    )
    problem = open_problem(two)
    seeds = seed_schedules(problem.error_table(0), problem.space, problem.weights, 2)
    assert evaluations(two, "ours", 0, [8])[8][:2] == seeds
    assert evaluations(none, "ours", 0, [8])[8][:2] != seeds


def test_no_seed_repeats_a_warm_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_table().save(tmp_path / "toy.npz")
    spec = ProblemSpec(space=str(tmp_path / "toy.npz"), warm_starts="presets", dp_seeds=2)
    problem = open_problem(spec)
    errors = problem.error_table(0)
    (optimum,) = seed_schedules(errors, problem.space, problem.weights, 1)
    monkeypatch.setattr(runner, "warm_starts", lambda *_: [("D7", optimum)])
    seeds = seed_schedules(errors, problem.space, problem.weights, 2, [optimum])
    for proposer in ("ours", "dp_seeds"):
        found = evaluations(spec, proposer, 0, [6])[6]
        assert found[:3] == [optimum, *seeds]
        assert len(set(found)) == 3


def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    make_table().save(tmp_path / "toy.npz")
    spec = ProblemSpec(space=str(tmp_path / "toy.npz"))
    alone, both = (
        run_all(spec, ["uniform", "tpe"], 2, [5], jobs=jobs, note=print) for jobs in (1, 2)
    )
    assert alone == both


def test_kept_searches_are_not_repeated(tmp_path: Path) -> None:
    make_table().save(tmp_path / "toy.npz")
    spec = ProblemSpec(space=str(tmp_path / "toy.npz"))
    said: list[str] = []

    def scores(seeds: int, jobs: int) -> Scores:
        kept = KeptScores.open(tmp_path / "kept", open_problem(spec), {})
        return run_all(spec, ["tpe"], seeds, [3, 5], jobs=jobs, note=said.append, kept=kept)

    first = scores(1, jobs=1)
    with (tmp_path / "kept" / "rows-0of1.jsonl").open("a") as file:
        file.write('{"key": "tpe/1", "prop')  # of a process that died
    both = scores(2, jobs=2)
    assert both["tpe"][5][0] == first["tpe"][5][0]
    assert both == run_all(spec, ["tpe"], 2, [3, 5], jobs=1, note=print)
    kept = [line for line in said if "kept" in line]
    assert kept == ["tpe: search 0 kept", "tpe: search 1 kept"]


@pytest.mark.parametrize("changed", ["nothing", "budget", "table", "code"])
def test_kept_searches_belong_to_their_table_budget_and_code(
    tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table()
    table.save(tmp_path / "toy.npz")
    argv = ["--space", str(tmp_path / "toy.npz"), "--seeds", "1", "--proposers", "uniform"]
    argv += ["--jobs", "1", "--json", "--keep", str(tmp_path / "kept"), "--trials"]
    assert main([*argv, "5"]) == 0
    if changed == "table":  # the mean is the same, but not what a search sees
        make_table(fid=table.fid[:, ::-1]).save(tmp_path / "toy.npz")
        open_problem.cache_clear()
    if changed == "code":
        monkeypatch.setattr(kept_scores, "SOURCES", kept_scores.SOURCES[1:])
    code = main([*argv, "4" if changed == "budget" else "5"])
    assert code == (0 if changed == "nothing" else ExitCode.CONFIG)


def test_a_plot_does_not_repeat_kept_searches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table().save(tmp_path / "toy.npz")
    argv = ["--space", str(tmp_path / "toy.npz"), "--seeds", "1", "--proposers", "tpe"]
    argv += ["--jobs", "1", "--json", "--keep", str(tmp_path / "kept"), "--trials", "10"]
    assert main(argv) == 0
    assert "tpe: search 0 kept" in capsys.readouterr().err
    assert main([*argv, "--plot", str(tmp_path / "curve.png")]) == 0
    assert "kept" not in capsys.readouterr().err
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_warm_starts_are_the_presets_of_the_network_without_doubles() -> None:
    problem = SyntheticProblem()
    named = warm_starts(problem, "presets")
    assert [name for name, _ in named] == ["full", "D2-DiT", "D3-DiT", "D4-DiT", "D7-DiT"]
    assert warm_starts(problem, "full") == named[:1]
    assert warm_starts(problem, "none") == []


def test_presets_are_scaled_to_depths_not_to_numbers_of_levels() -> None:
    """On the levels of the digits, D7 runs 64 blocks and not 49."""
    problem = _Levels()
    named = {
        name: tuple(problem.levels[number - 1] for number in schedule.depths)
        for name, schedule in warm_starts(problem, "presets")
    }
    assert named["full"] == (10,) * 10
    assert named["D7-DiT"] == (10, 10, 10, 7, 7, 4, 4, 4, 4, 4)
    assert {tuple(row) for row in named.values()} == set(digits.schedules_in_order()[:5])


class _Levels(SyntheticProblem):
    """The numbers of the digits' levels."""

    def __init__(self) -> None:
        super().__init__(space=SearchSpace(1, 4, 10))

    @property
    def levels(self) -> tuple[int, ...]:
        return digits.LEVELS


@pytest.mark.parametrize("which", ["reference", "levels"])
def test_the_synthetic_space_is_measured_like_a_table(which: str) -> None:
    synthetic = SyntheticProblem(space=SearchSpace(1, 3, 4), weights=(1, 2, 2, 2))
    every = list(synthetic.space.enumerate())
    truth = [synthetic.truth(schedule) for schedule in every]
    table = TableProblem(
        make_table(
            levels=(1, 2, 3),
            depths=np.array([schedule.depths for schedule in every], dtype=np.int8),
            fid=np.array([[fid] for fid, _ in truth], dtype=np.float32),
            latency_ms=np.array([latency for _, latency in truth], dtype=np.float32),
        )
    )
    assert getattr(synthetic, which) == pytest.approx(getattr(table, which), rel=1e-6)
