"""``schedsearch profile``."""

import json
from pathlib import Path

from tiny_runs import run_cli, write_space

from schedsearch.runs.folder import RunFolder

SMALL = {
    "space": {"num_intervals": 10, "min_depth": 8, "max_depth": 10},
    "warm_start": ["full", [10, 10, 10, 9, 9, 9, 8, 8, 8, 8]],
    "recipe": {"num_steps": 2, "batch_size": 4, "weights": "shared"},
    "profile": {"num_images": 4},
}


def test_tables_pictures_and_a_folder_that_a_run_takes_up(tmp_path: Path) -> None:
    space = write_space(tmp_path, **SMALL)
    done = run_cli("profile", space, "--output", tmp_path / "run")
    assert done.code == 0, done.err
    for text in ("latency table", "error table", "shared weights, 2 steps", "plan 1", "full"):
        assert text in done.out
    assert "residuals" in done.out
    folder = RunFolder(tmp_path / "run")
    names = {path.name for path in folder.profile.iterdir()}
    pictures = {"latency_table.png", "error_table.png", "block_value.png"}
    assert {"profile.json", "error_table.json", "shared.safetensors", *pictures} <= names
    for name in pictures:
        assert (folder.profile / name).read_bytes().startswith(b"\x89PNG")
    data = json.loads((folder.profile / "profile.json").read_text())
    assert data["calls_per_interval"] == [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]
    full = next(entry for entry in data["hand_made"] if entry["name"] == "full")
    assert (full["blocks"], full["excess_loss"], full["acceleration"]) == (30, 0.0, 0.0)
    assert data["plans"]
    keys = {"latency_ms", "latency_half_width_ms", "predicted_latency_ms"}
    for plan in (*data["plans"], *data["hand_made"]):  # at the calls in intervals 3, 6 and 9
        assert keys <= set(plan)
        assert plan["blocks"] == sum(plan["depths"][i] for i in (3, 6, 9))

    before = folder.error_table.stat().st_mtime_ns, folder.latency_file.read_text()
    again = run_cli("profile", space, "--output", tmp_path / "run")
    assert again.code == 0, again.err
    after = folder.error_table.stat().st_mtime_ns, folder.latency_file.read_text()
    assert before == after  # both tables are kept
    assert "tuning" in done.err
    assert "tuning" not in again.err

    other = run_cli("profile", space, "-o", "space.min_depth=7", "--output", tmp_path / "run")
    assert other.code == 2
    assert "space.min_depth" in other.err


def test_a_space_without_a_profile(tmp_path: Path) -> None:
    space = write_space(tmp_path, profile=None)
    done = run_cli("profile", space, "--output", tmp_path / "run")
    assert done.code == 2
    assert "but the space tiny says profile: null. Remove that line" in done.err
    assert not (tmp_path / "run").exists()


def test_a_failed_fine_tune(tmp_path: Path) -> None:
    space = write_space(tmp_path, **{**SMALL, "recipe": {**SMALL["recipe"], "lr": 1e30}})
    done = run_cli("profile", space, "--output", tmp_path / "run")
    assert done.code == 4
    assert "recipe.lr" in done.err
    assert "profile/log.txt" in done.err
