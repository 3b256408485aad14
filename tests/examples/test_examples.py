"""Every script of ``examples/`` runs, with numbers too small to mean anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.slow


def run_example(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_noise_easy_vs_data_easy(tmp_path):
    small = ["--num-steps", "2", "--num-samples", "40", "--num-seeds", "2", "--shares", "50"]
    printed = run_example("01_noise_easy_vs_data_easy.py", *small, "--output", "out", cwd=tmp_path)
    assert printed.startswith("FID (digits CNN, n=40), mean of 2 seeds")
    assert "  50 %, data-easy: untuned +" in printed  # far beyond the noise, even so
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {
        "results.png",
        "100_full_depth.png",
        "50_noise-easy.png",
        "50_flat.png",
        "50_data-easy.png",
    }


@pytest.mark.parametrize("backend", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_custom_model_and_trainer(tmp_path, backend):
    printed = run_example(
        "02_custom_model_and_trainer.py",
        "--output=out",
        "--pretrain-steps=20",
        "--num-steps=2",
        "--num-samples=40",
        "--n-trials=3",
        f"--backend={backend}",
        cwd=tmp_path,
    )
    assert "my_model:PatchMixer" in printed
    assert "FID (24 principal components, n=40)" in printed
    log = (tmp_path / "out" / "run" / "trials" / "0000" / "log.txt").read_text()
    assert "Min-SNR weighting with gamma=5" in log


def test_use_exported_schedule(tmp_path):
    (tmp_path / "flat.yaml").write_text(
        "schema: schedsearch.schedule/1\n"
        "name: flat\n"
        "backbone: {family: dit, num_exit_blocks: 10}\n"
        "depths: [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]\n"
    )
    small = ["--num", "4", "--rounds", "1", "--output", "two.png"]
    printed = run_example("03_use_exported_schedule.py", *small, cwd=tmp_path)
    assert "blocks, data -> noise: 10 10 9 9 7 7 6 6 4 4   (of 10)" in printed
    printed = run_example(
        "03_use_exported_schedule.py", "--schedule", "flat.yaml", *small, cwd=tmp_path
    )
    assert "saved: " in printed
    assert (tmp_path / "two.png").is_file()


def test_no_example_is_forgotten():
    source = Path(__file__).read_text()
    scripts = {path.name for path in EXAMPLES.glob("[0-9]*.py")}
    assert scripts
    assert all(f'"{name}"' in source for name in scripts)
