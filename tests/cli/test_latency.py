"""``schedsearch latency``."""

from pathlib import Path

import yaml
from tiny_runs import TINY, run_cli


def test_tables(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    keys = ("backbone", "solver", "evaluation")
    space.write_text(yaml.safe_dump({key: TINY[key] for key in keys}))
    done = run_cli("latency", space, "--schedule", "D3-DiT", "--schedule", "4", "--batch", 2)
    assert done.code == 0, done.err
    assert "batch 2, 1 CPU thread(s), dpm_solver with 3 steps" in done.out
    for row in ("D3-DiT", "10 10 9 9 7 7 6 6 4 4", "4 4 4 4 4 4 4 4 4 4", "full"):
        assert row in done.out
    assert done.err == ""


def test_mistakes(tmp_path: Path) -> None:
    done = run_cli("latency", "digits_dit", "--schedule", "D33-DiT")
    assert done.code == 2
    assert "D33-DiT" in done.err
