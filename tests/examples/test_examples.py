"""Every script of ``examples/`` runs, with numbers too small to mean anything."""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)  # as Python does for a script


def run(name: str, *arguments: str) -> str:
    """What a script prints itself; in this process, which has imported torch already."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = [name, *arguments]
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before
    return printed.getvalue()


def test_noise_easy_vs_data_easy(tmp_path: Path) -> None:
    small = ["--num-steps=2", "--num-samples=20", "--num-seeds=2", "--shares=50", "--workers=1"]
    printed = run("01_noise_easy_vs_data_easy.py", *small, "--output=out")
    assert printed.startswith("FID (digits CNN, n=20), mean of 2 seeds")
    assert "  50 %, data-easy: untuned +" in printed  # far beyond the noise, even so
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {
        "results.png",
        "100_full_depth.png",
        "50_noise-easy.png",
        "50_flat.png",
        "50_data-easy.png",
    }


@pytest.mark.slow
def test_custom_model_and_trainer(tmp_path: Path) -> None:
    printed = run(
        "02_custom_model_and_trainer.py",
        "--output=out",
        "--pretrain-steps=20",
        "--num-steps=2",
        "--num-samples=40",
        "--n-trials=3",
        "--workers=1",
    )
    assert "trained the mixer" in printed
    folder = tmp_path / "out" / "run"
    rows = json.loads((folder / "results.jsonl").read_text().splitlines()[0])
    assert rows["evaluation"]["features"] == "24 principal components"
    assert "my_model:PatchMixer" in (folder / "space.yaml").read_text()
    log = (folder / "trials" / "0000" / "log.txt").read_text()
    assert "Min-SNR weighting with gamma=5" in log


@pytest.mark.slow
def test_flow_matching_model(tmp_path: Path) -> None:
    printed = run(
        "05_flow_matching_model.py",
        "--output=out",
        "--pretrain-steps=20",
        "--num-steps=2",
        "--num-samples=40",
        "--n-trials=3",
        "--workers=1",
    )
    assert "trained the painter: velocity loss" in printed
    assert "four images from Python: pixel std" in printed
    folder = tmp_path / "out" / "run"
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [row["evaluation"]["nfe"] for row in rows] == [20, 20, 20]
    assert "prediction: x0" in (folder / "space.yaml").read_text()


def test_use_exported_schedule(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(
        "schema: schedsearch.schedule/1\n"
        "name: flat\n"
        "backbone: {family: dit, num_exit_blocks: 10}\n"
        "depths: [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]\n"
    )
    small = ["--num=4", "--rounds=1", "--output=two.png"]
    printed = run("03_use_exported_schedule.py", *small)
    assert "blocks, data -> noise: 10 10 9 9 7 7 6 6 4 4   (of 10)" in printed
    printed = run("03_use_exported_schedule.py", "--schedule=flat.yaml", *small)
    assert "blocks, data -> noise: 4 4 4 4 4 4 4 4 4 4   (of 10)" in printed
    assert "saved: " in printed
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_enable_on_a_pipeline(tmp_path: Path) -> None:
    (tmp_path / "fast.yaml").write_text(
        "schema: schedsearch.schedule/1\n"
        "name: fast\n"
        "backbone: {family: dit, num_exit_blocks: 4, fingerprint: 'sha256:0123'}\n"
        "depths: [4, 4, 4, 4, 4, 2, 2, 2, 2, 2]\n"
        "weights: fast.safetensors\n"
    )
    small = ["--num=1", "--num-steps=4", "--rounds=1"]
    printed = run("04_enable_on_a_pipeline.py", "--schedule=fast.yaml", *small)
    assert "blocks run: 12 of 16 (25.0% saved)\nclock times of the last run: " in printed
    assert "blocks per step, noise -> data: 2 2 4 4" in printed
    assert "time saved: " in printed
    printed = run("04_enable_on_a_pipeline.py", "--schedule=D3-DiT", "--blocks=4", *small)
    assert "blocks, data -> noise: 4 4 3 3 3 3 2 2 2 2" in printed


def test_no_example_is_forgotten() -> None:
    source = Path(__file__).read_text()
    scripts = {path.name for path in EXAMPLES.glob("[0-9]*.py")}
    assert scripts
    assert all(f'"{name}"' in source for name in scripts)
