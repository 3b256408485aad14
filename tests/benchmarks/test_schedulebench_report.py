"""What ScheduleBench prints: scores, differences, and when a space is too easy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from toy_table import make_table

from benchmarks.schedulebench import report
from benchmarks.schedulebench.__main__ import main


def test_json_is_pure_and_holds_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_table().save(tmp_path / "toy.npz")
    flags = ["--space", str(tmp_path / "toy.npz"), "--seeds", "2", "--trials", "9", "--jobs", "1"]
    proposers = ["--proposers", "ours", "uniform", "dp_seeds"]
    assert main([*flags, "--json", *proposers]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"ours", "uniform", "dp_seeds"}
    assert all(0 < value <= 1 for value in found.values())
    assert main([*flags, *proposers, "--plot", str(tmp_path / "plot.png")]) == 0
    shown = capsys.readouterr().out
    assert "ours - second" in shown
    assert "95 % t interval" in shown
    assert "Charged to none" not in shown
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


def test_the_check_runs_whatever_budget_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table().save(tmp_path / "toy.npz")  # 15 schedules: 30 trials see them all
    flags = ["--space", str(tmp_path / "toy.npz"), "--seeds", "2", "--trials", "3", "--jobs", "1"]
    assert main([*flags, "--json", "--proposers", "uniform"]) == 0
    told = capsys.readouterr()
    assert "uniform random reaches 100.0% at 30 trials" in told.err
    assert json.loads(told.out)["uniform"] < 0.95  # at the budget that was asked for
    assert main([*flags, "--json", "--proposers", "stratified"]) == 0
    assert "too easy" not in capsys.readouterr().err


def test_the_difference_to_the_second_is_paired() -> None:
    luck = np.array([0.0, 0.2, 0.4, 0.6])
    scores = {
        "ours": {9: (luck + np.array([0.031, 0.030, 0.029, 0.030])).tolist()},
        "tpe": {9: luck.tolist()},
        "uniform": {9: (luck - 0.1).tolist()},
    }
    assert report.against_second(scores, 9) == "+3.00 ± 0.13 (tpe)"
    assert "| ours | 33.0 ± 41.0 |" in report.table(scores, [9])
