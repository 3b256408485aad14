"""How the noise of fine-tunes is measured and summed up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import write_space

from benchmarks import noise_of_training
from benchmarks.noise_of_training import main, noise_row, pair_of
from benchmarks.retraining import Job
from schedsearch.config import read_settings


def test_spreads_over_training_seeds() -> None:
    fids = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([0.9, 1.7, 2.8])}
    row = noise_row("x", fids, [("a", "b")], 4.0)
    assert row["fid"] == pytest.approx(1.9)
    spread = np.sqrt((fids["a"].var(ddof=1) + fids["b"].var(ddof=1)) / 2)
    assert row["fid_sd"] == pytest.approx(spread)
    assert row["pair_1"] == "-0.2000 (sd 0.1000)"
    assert (row["recipe"], row["seconds"]) == ("x", 4.0)


def test_pairs() -> None:
    assert pair_of("D7-DiT = 3,2,1") == ("D7-DiT", "3,2,1")
    for text in ("D7-DiT", "=3", "D7-DiT="):
        with pytest.raises(Exception, match="no pair"):
            pair_of(text)


def test_every_variant_is_measured_with_its_own_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[int, list[Job]] = {}

    def measure_all(jobs: Any, run: Path, rows: Path, processes: int) -> dict[str, Any]:
        assert rows.parent == run
        recipe = read_settings(run / "space.yaml", []).recipe
        asked[recipe.batch_size] = found = list(jobs)
        noise = 1.0 / recipe.batch_size
        return {
            job.key: {
                "fids": [1.0 + sum(job.depths) + noise * job.training_seed * job.depths[-1]],
                "features": "digits CNN",
                "finetune_seconds": recipe.batch_size,
            }
            for job in found
        }

    monkeypatch.setattr(noise_of_training, "measure_all", measure_all)
    space = write_space(tmp_path)
    own = read_settings(space, []).recipe.batch_size
    pairs = ["--pair", "full=9 9 9 9 9 9 9 9 9 2", "--pair", "full=3"]
    more = ["--variant", f"recipe.batch_size={2 * own}", "--training-seeds", "3"]
    output = ["--output", str(tmp_path / "out"), "--json", str(tmp_path / "t.json")]
    main([str(space), *pairs, *more, *output])
    assert list(asked) == [own, 2 * own]
    schedules = {(10,) * 10, (9,) * 9 + (2,), (3,) * 10}
    for jobs in asked.values():
        assert {job.depths for job in jobs} == schedules
        assert {job.training_seed for job in jobs} == {100, 101, 102}
        assert {job.evaluation_seeds for job in jobs} == {(900,)}
    first, second = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert (first["recipe"], second["recipe"]) == ("its own", f"recipe.batch_size={2 * own}")
    assert second["fid_sd"] == pytest.approx(first["fid_sd"] / 2)
    assert first["pair_1"] == f"{-17 - 101 * 8 / own:+.4f} (sd {8 / own:.4f})"
    assert "FID (digits CNN, n=2000)" in capsys.readouterr().out


def test_one_training_seed_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gone", "--pair", "full=3", "--training-seeds", "1"])
    assert "two training seeds or more" in capsys.readouterr().err
