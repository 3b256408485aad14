"""``schedsearch latency``."""

import json
import re
from pathlib import Path

import pytest
import yaml
from tiny_runs import TINY, run_cli
from torch import nn

from schedsearch.backbones.dit import DiTBlock


def test_tables(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    keys = ("backbone", "solver", "evaluation")
    space.write_text(yaml.safe_dump({key: TINY[key] for key in keys}))
    options = ("--batch", 2, "-o", "evaluation.latency_repeats=4")
    done = run_cli("latency", space, "--schedule", "D3-DiT", "--schedule", "4", *options)
    assert done.code == 0, done.err
    assert "4 rounds" in done.out
    assert "batch 2, 1 CPU thread(s), dpm_solver with 3 steps" in done.out
    assert done.err == ""
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in done.out[done.out.index("sampling one batch") :].splitlines()
        if line.startswith("│")
    ]
    assert [row[:2] for row in rows] == [
        ["full", " ".join(["10"] * 10)],
        ["D3-DiT", "10 10 9 9 7 7 6 6 4 4"],
        ["4", " ".join(["4"] * 10)],
    ]
    # The prediction is the line's own, of the intervals 3, 6 and 9 that the solver visits.
    fit = re.search(r"T = (\S+) \+ sum over 3 calls of \((\S+) \+ (\S+) depth\) ms", done.out)
    assert fit is not None
    fixed, per_call, per_block = map(float, fit.groups())
    for row, blocks in zip(rows, (30, 9 + 6 + 4, 12), strict=True):
        expected = fixed + 3 * per_call + per_block * blocks
        assert float(row[3]) == pytest.approx(expected, abs=0.12)
        measured, full = (float(r[2].partition(" ")[0]) for r in (row, rows[0]))
        saved, rounding = 100 * (1 - measured / full), 0.1 + 100 * 0.1 / full
        assert float(row[4].rstrip("%")) == pytest.approx(saved, abs=rounding)


def test_json_has_the_names_of_the_front(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    keys = ("backbone", "solver", "evaluation")
    space.write_text(yaml.safe_dump({key: TINY[key] for key in keys}))
    batches = ("--batch", 1, "--batch", 2)
    done = run_cli("latency", space, "--schedule", "4", *batches, "--format", "json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [(row["name"], row["batch"]) for row in rows] == [
        ("full", 1),
        ("4", 1),
        ("full", 2),
        ("4", 2),
    ]
    for row in rows:
        assert row["depths"] == [10 if row["name"] == "full" else 4] * 10
        full_ms = next(r for r in rows if r["batch"] == row["batch"])["latency_ms"]
        assert row["acceleration"] == pytest.approx(1 - row["latency_ms"] / full_ms)
        assert row["predicted_latency_ms"] > 0 <= row["latency_half_width_ms"]
        assert (row["dtype"], row["threads"], row["num_steps"]) == ("float32", 1, 3)


def test_compiled_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(DiTBlock, "compile", lambda block, dynamic: compiled.append(block))
    space = tmp_path / "space.yaml"
    keys = ("backbone", "solver", "evaluation")
    space.write_text(yaml.safe_dump({key: TINY[key] for key in keys}))
    done = run_cli("latency", space, "--schedule", "4", "--batch", 1, "--compile")
    assert done.code == 0, done.err
    assert "float32, compiled, batch 1" in done.out
    assert len(compiled) == 2 * 10  # for the table, and for whole runs


def test_a_u_vit_is_measured_with_its_own_presets(uvit_space: Path) -> None:
    done = run_cli("latency", uvit_space, "--batch", 1)
    assert done.code == 0, done.err
    presets = ["D1-U-ViT", "D2-U-ViT", "D3-U-ViT", "D6-U-ViT"]
    assert re.findall(r"^│ (\S*[a-zA-Z]\S*)", done.out, re.MULTILINE) == ["full", *presets]
    assert depths_measured(done.out) == ["1", "2", "3"], "no schedule visits depth 0"


def test_a_dit_is_measured_with_its_own_presets(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    keys = ("backbone", "solver", "evaluation")
    space.write_text(yaml.safe_dump({key: TINY[key] for key in keys}))
    done = run_cli("latency", space, "--batch", 1)
    assert done.code == 0, done.err
    presets = ["D2-DiT", "D3-DiT", "D4-DiT", "D7-DiT"]
    assert re.findall(r"^│ (\S*[a-zA-Z]\S*)", done.out, re.MULTILINE) == ["full", *presets]


def test_depth_0_of_a_u_vit_is_measured_where_a_schedule_has_it(uvit_space: Path) -> None:
    spec = "2,2,1,0,0,0,0,0,0,0"
    done = run_cli("latency", uvit_space, "--schedule", spec, "--batch", 1)
    assert done.code == 0, done.err
    assert "2 2 1 0 0 0 0 0 0 0" in done.out
    assert depths_measured(done.out) == ["0", "1", "2", "3"]


def depths_measured(out: str) -> list[str]:
    """First column of the table of single calls."""
    lines = out[out.index("one network call") : out.index("T = ")].splitlines()
    return [line.strip("│ ").split("│")[0].strip() for line in lines if line.startswith("│")]


def test_an_unknown_preset() -> None:
    done = run_cli("latency", "digits_dit", "--schedule", "D33-DiT")
    assert done.code == 2
    assert "no schedule file or preset 'D33-DiT'; did you mean 'D3-DiT'?" in done.err


def test_a_dit_has_no_depth_0() -> None:
    done = run_cli("latency", "digits_dit", "--schedule", "0")
    assert done.code == 2
    assert "must be in [1, 10]" in done.err
