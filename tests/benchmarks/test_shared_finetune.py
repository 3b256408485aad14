"""The comparison of shared fine-tunes, on tiny numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import write_space

from benchmarks import shared_finetune
from benchmarks.shared_finetune import ranking
from schedsearch.schedule import ExitSchedule


def test_rank_agreement_by_hand() -> None:
    points = [
        (ExitSchedule(depths), fid)
        for depths, fid in (
            ((2, 2), 1.0),
            ((2, 1), 2.0),
            ((1, 2), 3.0),
            ((1, 1), 4.0),
        )
    ]
    costs = {
        "right": np.array([[3.0, 0.0], [1.0, 0.0]]),
        "wrong": np.array([[-3.0, 0.0], [-1.0, 0.0]]),
    }
    rows = {row["ranked by"]: row for row in ranking(costs, 1, points, [1, 1]).rows}
    assert (rows["right table"]["tau"], rows["wrong table"]["tau"]) == (1.0, -1.0)
    assert rows["block count"]["tau"] == pytest.approx(5 / 6)  # one tie in six pairs
    assert rows["block count"]["tau, alike"] == 0.0  # of the pair with equal blocks
    assert rows["right table"]["tau, alike"] == 1.0


def test_all_tables_and_that_nothing_is_measured_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = write_space(
        tmp_path,
        space={"num_intervals": 2, "min_depth": 8, "max_depth": 10},
        warm_start=["full", [10, 9], [9, 8]],
        recipe={"num_steps": 1, "batch_size": 4},
        profile={"num_images": 4},
    )
    points = tmp_path / "points.json"
    points.write_text(json.dumps([[[10, 10], 0.5], [[8, 8], 2.0]]))
    argv = [str(space), "--output", str(tmp_path / "out"), "--steps", "1", "--seeds", "1"]
    argv += ["--random", "0", "--points", str(points), "-o", "evaluation.num_samples=16"]
    shared_finetune.main(argv)
    first = capsys.readouterr().out
    for title in ("Best schedules of each table", "Starting weights", "Rank agreement"):
        assert f"## {title}" in first
    assert "| pretrained table |" in first

    monkeypatch.setattr(shared_finetune, "load_trainer", None)
    shared_finetune.main(argv)
    assert capsys.readouterr().out == first
