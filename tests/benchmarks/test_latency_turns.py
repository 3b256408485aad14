"""How turns at every step are compared with turns at every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import latency_turns
from benchmarks.latency_turns import PRESET, main, pair_row


def test_a_row_is_about_the_ratios_of_the_rounds() -> None:
    times = {PRESET: np.array([10.0, 20.0, 40.0]), "x": np.array([9.0, 18.0, 40.0])}
    row = pair_row("every step", "x", times, {PRESET: 100, "x": 99})
    assert row["by_blocks"] == pytest.approx(-0.01)
    assert row["median"] == pytest.approx(-0.1)
    assert row["spread"] == pytest.approx(-np.log(0.9) / 2 / 1.349)
    assert row["half_width"] == pytest.approx(1.96 * 1.2533 * row["spread"] / 3**0.5)
    assert row["ms"] == 18.0


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
    main(["digits_dit", "--schedule", schedule, "--rounds", "2", "--json", str(path)])
    assert kinds[0]
    assert all(sorted(kinds[k : k + 2]) == [False, True] for k in (1, 3))
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [(row["turns"], row["schedule"]) for row in rows] == [
        ("every step", "the same again"),
        ("every step", schedule),
        ("every step", "full"),
        ("every run", "the same again"),
        ("every run", schedule),
        ("every run", "full"),
    ]
    assert [round(row["by_blocks"], 4) for row in rows] == [0, -0.0084, 0.6807] * 2
    assert all(np.isfinite(row["median"]) for row in rows)
    printed = capsys.readouterr().out
    assert printed.count(f"| {schedule} |") == 2
    assert path.with_suffix(".md").read_text(encoding="utf-8").strip() in printed
    for name in ("full", PRESET):
        with pytest.raises(SystemExit):
            main(["digits_dit", "--schedule", name])
