"""How turns at every step are compared with turns at every run."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import latency_turns
from benchmarks.latency_turns import PRESET, main, rows_of


def test_rows_say_how_a_schedule_does_beside_the_preset() -> None:
    rng = np.random.default_rng(0)
    rounds = [
        {PRESET: [10.0 * pace] * 4, "x": [9.9 * pace * np.exp(0.01 * rng.normal())] * 4}
        for pace in rng.uniform(1.0, 2.0, size=100)
    ]
    (row,) = rows_of("every run", rounds, {PRESET: 100, "x": 98}, rng)
    assert row["by_blocks"] == pytest.approx(-0.02)
    assert row["measured"] == pytest.approx(-0.01, abs=0.004)
    # One of two disturbs the pace of both, by half; a median of nine is 1.25 / 3 as sure.
    assert row["scatter"] == pytest.approx(0.01 * 1.25 / 3, rel=0.2)
    assert row["half_width"] > 0


def test_both_kinds_of_rounds_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = []
    real = latency_turns.time_round

    def time_round(work, clock, rng):  # type: ignore[no-untyped-def]
        kinds.append(clock.in_turns)
        return real(work, clock, rng)

    monkeypatch.setattr(latency_turns, "time_round", time_round)
    path = tmp_path / "turns.json"
    schedule = "10 9 8 8 8 8 3 2 2 2"
    monkeypatch.setattr(latency_turns, "DRAWN", 2)
    monkeypatch.setattr(latency_turns, "DRAWS", 3)
    main(["digits_dit", "--schedule", schedule, "--rounds", "3", "--json", str(path)])
    assert kinds[0]
    assert all(sorted(kinds[k : k + 2]) == [False, True] for k in (1, 3, 5))
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    ways = ("every step", "every step, sums of runs", "every run")
    names = ("full", "the same again", schedule)
    assert [(row["turns"], row["schedule"]) for row in rows] == list(product(ways, names))
    assert [round(row["by_blocks"], 4) for row in rows] == [0.6807, 0, -0.0084] * 3
    assert all(np.isfinite(row["measured"]) for row in rows)
    printed = capsys.readouterr().out
    assert printed.count(f"| {schedule} |") == 3
    assert path.with_suffix(".md").read_text(encoding="utf-8").strip() in printed
    for name in ("full", PRESET):
        with pytest.raises(SystemExit):
            main(["digits_dit", "--schedule", name])
    with pytest.raises(SystemExit):
        main(["digits_dit", "--schedule", schedule, "--rounds", "2"])
