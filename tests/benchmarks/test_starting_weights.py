"""Kinds of weights: what makes them, and how they are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import write_space

from benchmarks import starting_weights
from benchmarks.retraining import Job
from benchmarks.starting_weights import KINDS, Kind, main, table_of
from schedsearch.config import read_settings


def test_every_kind_is_a_valid_space_and_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        settings = read_settings("digits_dit", list(kind.settings))
        assert settings.recipe.num_steps == kind.own
        assert settings.profile is not None
        assert (settings.profile.start == "shared") == bool(kind.shared)
        assert settings.profile.num_steps == kind.shared


def test_names() -> None:
    assert Kind(own=0).name == "pretrained"
    assert Kind(own=3).name == "3 own"
    assert Kind(own=0, shared=2).name == "2 shared"
    assert Kind(own=3, shared=2, note="odd").name == "2 shared + 3 own, odd"


def test_differences_are_paired_by_both_seeds() -> None:
    long = [[1.0, 2.0], [3.0, 5.0]]
    less = [[value - 0.1 for value in row] for row in long]
    one, two = table_of({"400 own": {"full": long}, "pretrained": {"full": less}}, "note").rows
    assert one == {"weights": "400 own", "full": 2.75, "full, difference": None}
    assert two["full"] == pytest.approx(2.65)
    assert two["full, difference"] == "-0.100 (-0.100 to -0.100) better"


def test_all_kinds_are_measured_with_their_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, list[Job]] = {}

    def measure_all(jobs: Any, run: Path, rows: Path, processes: int) -> dict[str, Any]:
        assert rows.parent == run
        settings = read_settings(run / "space.yaml", [])
        asked[run.name] = found = list(jobs)
        assert {job.num_steps for job in found} == {settings.recipe.num_steps}
        fids = {job.key: [1.0 + job.depths[-1] / 100, 1.0] for job in found}
        return {key: {"fids": value, "features": "digits CNN"} for key, value in fids.items()}

    monkeypatch.setattr(starting_weights, "measure_all", measure_all)
    space = write_space(tmp_path, profile={"num_images": 4})
    uniform = "400 shared, uniform exits"
    names = ["400 own", "pretrained", "400 shared", uniform]
    chosen = [part for name in names for part in ("--kind", name)]
    output = ["--output", str(tmp_path / "out"), "--json", str(tmp_path / "t.json")]
    main([str(space), *chosen, *output, "--training-seeds", "2", "--evaluation-seeds", "2"])
    assert list(asked) == ["400_own", "pretrained", "400_shared", "400_shared_uniform_exits"]
    exits = {name: {job.exits for job in jobs} for name, jobs in asked.items()}
    assert exits["400_shared"] == {"schedules"}
    assert exits["400_shared_uniform_exits"] == {"uniform"}
    assert {len(asked["400_own"]), len(asked["400_shared"])} == {8}  # 4 schedules, 2 seeds
    assert len(asked["pretrained"]) == 4
    assert {job.start for job in asked["400_shared"]} == {"shared"}
    assert {job.start for job in asked["400_own"]} == {"pretrained"}
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert [row["weights"] for row in rows] == names
    assert rows[0]["full"] == pytest.approx(1.05)
    assert "FID (digits CNN, n=64), 2 training x 2 evaluation seeds" in capsys.readouterr().out
