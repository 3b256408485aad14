"""From measured rows to a table that ships."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.schedulebench import digits
from benchmarks.schedulebench.levels import snapped
from benchmarks.schedulebench.pack import pack
from benchmarks.schedulebench.rows import RowFolder, key_of
from benchmarks.schedulebench.side_tables import (
    FILE,
    LATENCY_REPEATS,
    Variant,
    _errors,
    make_side_tables,
    read_side_tables,
)
from benchmarks.schedulebench.tables import Table
from schedsearch.config import dump_settings
from schedsearch.evaluation.latency_protocol import LatencyProtocol
from schedsearch.evaluation.latency_table import fit_table
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import RecipeSettings, StudySettings
from schedsearch.workers.jobs import ProfileJob
from schedsearch.workers.workbench import Workbench, open_workbench

LEVELS, NUM_INTERVALS = (1, 10), 10
SCHEDULES = list(itertools.combinations_with_replacement(LEVELS[::-1], NUM_INTERVALS))


def quick(study: StudySettings, **recipe: Any) -> StudySettings:
    """The study with next to no work."""
    return dataclasses.replace(
        study,
        recipe=dataclasses.replace(study.recipe, batch_size=4, **recipe),
        evaluation=dataclasses.replace(study.evaluation, num_samples=8, latency_batch=1),
        solver=dataclasses.replace(study.solver, num_steps=10),
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("reference")
    return open_workbench(dump_settings(quick(digits.study(), num_steps=4)), str(folder))


def test_a_row_holds_every_seed(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "NUM_SAMPLES", 8)
    row = digits.measure_row(bench, (10, 7, 7, 4, 4, 1, 1, 1, 1, 1))
    assert row["key"] == "10-7-7-4-4-1-1-1-1-1"
    assert len(set(row["fid"])) == 3
    assert {"fine_tune", "sample_0", "sample_1", "sample_2"} == set(row["seconds"])
    json.dumps(row)


def test_depths_move_to_the_nearest_level() -> None:
    depths = (10, 9, 8, 6, 3, 1)
    assert snapped(ExitSchedule(depths), digits.LEVELS) == (10, 10, 7, 7, 4, 1)
    assert snapped(ExitSchedule((4, 3, 2)), (1, 3, 5)) == (5, 3, 3)  # the deeper of two


@pytest.mark.slow
def test_side_tables_are_measured_once_and_charge_cpu_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.schedulebench.side_tables.LATENCY_REPEATS", 3)
    monkeypatch.setattr("benchmarks.schedulebench.side_tables.COST_TRIALS", 2)
    lines: list[str] = []
    study = quick(digits.study(), num_steps=1)
    variants = [Variant("schedules", 1)]
    make_side_tables(tmp_path, study, variants, SCHEDULES, fine_tunes=True, note=lines.append)
    assert len(lines) == 3
    variants.append(Variant("as-is", 0))
    make_side_tables(tmp_path, study, variants, SCHEDULES, fine_tunes=True, note=lines.append)
    assert len(lines) == 4  # only what was missing
    side = read_side_tables(tmp_path, (1, 4, 10), variants)
    assert side["costs"]["trial"] == pytest.approx(
        side["costs"]["fine_tune"] + side["costs"]["sample"]
    )
    errors = side["error_tables"]["schedules"]
    assert (errors.depths, errors.num_intervals) == ((1, 2, 3), 10)
    kept = json.loads((tmp_path / FILE).read_text())["errors/schedules"]
    assert errors.losses[0] == tuple(kept["losses"][0][i] for i in (0, 3, 9))
    assert side["error_tables"]["as-is"].exits == "pretrained"


VARIANTS = (Variant("pretrained", 0), Variant("schedules", 4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows of 11 schedules at two of three seeds, and side tables, as if measured."""
    rows = RowFolder.open(tmp_path)
    rows.bind(
        {"table": "toy", "levels": LEVELS, "num_intervals": NUM_INTERVALS, "seeds": (0, 1, 2)}
    )
    rows.append(key="latency", table={})
    for depths in SCHEDULES:
        for seed in (0, 1):
            fid = 100.0 - sum(depths) * 0.9 + seed
            rows.append(key=key_of(depths, seed), depths=depths, seed=seed, fid=fid)
    rows.append(key=key_of(SCHEDULES[0], 2), depths=SCHEDULES[0], seed=2, fid=1.0)
    protocol = LatencyProtocol(
        device="cpu", dtype="float32", batch=1, threads=1, solver="dpm_solver", num_steps=20,
        spacing="linspace", cfg_scale=1.0, cfg_channels=None,
    )  # fmt: skip
    latency = fit_table(
        {1: 3.0, 10: 12.0}, {1: 65.0, 10: 245.0}, num_calls=20, repeats=15, protocol=protocol
    )
    errors = {
        "depths": [1, 5, 10], "losses": [[0.3, 0.2, 0.1]] * 10,
        "standard_errors": [[0.0] * 3] * 10, "exits": "schedules", "num_steps": 4,
        "num_images": 8, "seed": 0, "seconds": 3.5,
    }  # fmt: skip
    side = {
        "costs": {"trial": 2.0, "fine_tune": 1.5, "sample": 0.5},
        "latency": {"table": latency.to_dict(), "cpu_seconds": 1.5},
        "errors/schedules": errors,
        "errors/pretrained": {**errors, "exits": "pretrained", "num_steps": 0},
        "errors/tried-once": errors,
    }
    (tmp_path / FILE).write_text(json.dumps(side))
    return tmp_path


def test_rows_become_a_table_of_the_seeds_that_are_complete(folder: Path) -> None:
    table = pack(folder, digits.study(), VARIANTS, {"shared_seconds": 60.0})
    assert table.fid.shape == (11, 2)  # seed 2 has one row only
    assert table.protocol["seeds"] == [0, 1]
    assert table.weights == (1, 2, 2, 2, 2, 3, 2, 2, 2, 2)  # of 20 steps, linspace
    assert sum(table.weights) == 20
    full = table.depths.tolist().index([10] * 10)
    assert table.fid[full].tolist() == pytest.approx([10.0, 11.0])
    assert table.latency_ms[full] == pytest.approx(245.0)  # 5 + 20 (2 + depth)
    assert LATENCY_REPEATS == 15
    assert table.costs == {
        "trial": 2.0,
        "fine_tune": 1.5,
        "sample": 0.5,
        "latency": pytest.approx(1.5 * 7 / 15),  # a run measures 7 repeats by default
    }
    assert list(table.error_tables) == ["pretrained", "schedules"]  # not in the file's order
    assert table.protocol["shared_seconds"] == 60.0
    assert table.error_tables["schedules"].losses[0] == (0.3, 0.1)
    assert " checkpoint:" not in table.protocol["study"]  # may be a path of this machine
    assert "num_steps: 20" in table.protocol["study"]
    table.save(folder / "toy.npz")
    assert np.array_equal(Table.load(folder / "toy.npz").fid, table.fid)


def test_a_table_with_holes_is_not_packed(folder: Path) -> None:
    path = folder / "rows-0of1.jsonl"
    lines = [line for line in path.read_text().splitlines() if key_of(SCHEDULES[3]) not in line]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="10 schedules in 10 rows, of 11"):
        pack(folder, digits.study(), VARIANTS, {})


@pytest.mark.parametrize("missing", ["costs", "latency", "errors/pretrained"])
def test_half_made_side_tables_are_not_packed(missing: str, folder: Path) -> None:
    kept = json.loads((folder / FILE).read_text())
    del kept[missing]
    (folder / FILE).write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match=f"lacks {missing}; run the command `tables`"):
        pack(folder, digits.study(), VARIANTS, {})
    (folder / FILE).unlink()
    with pytest.raises(ConfigError, match="lacks costs, latency, errors/pretrained, errors/sc"):
        pack(folder, digits.study(), VARIANTS, {})


def test_the_table_of_a_run_is_that_of_the_replays() -> None:
    assert digits.VARIANTS[0] == Variant("pretrained", 0)
    assert RecipeSettings(num_steps=1, batch_size=1, lr=1.0).weights == "own"


def test_a_measurement_that_was_stopped_is_made_and_charged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the worker would continue from what lies there, and the table cost nothing."""
    left = tmp_path / "profile-schedules" / "table.json"
    left.parent.mkdir()
    left.write_text("kept by a process that was killed")
    seen: list[bool] = []

    def run_profile(job: ProfileJob) -> ErrorTable | None:
        seen.append(left.exists())
        raise TrialError("stop here")

    monkeypatch.setattr("benchmarks.schedulebench.side_tables.run_profile", run_profile)
    with pytest.raises(TrialError, match="stop here"):
        _errors(tmp_path, digits.study(), VARIANTS[1])
    assert seen == [False]
