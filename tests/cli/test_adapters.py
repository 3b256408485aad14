"""A whole run with exit adapters: what is said of them, and what the user takes away."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import only_once, run_cli, write_space

import schedsearch
from schedsearch.evaluation.grid import save_grid
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults

SPACE = {
    "warm_start": ["full", "D4-DiT"],
    "recipe": {"start": "adapters", "batch_size": 16},
    "evaluation": {"auditor": "digits_mlp", "confirm_seeds": 1, "num_samples": 20},
    "search": {"n_trials": 3},
}


@pytest.fixture(scope="module")
def adapted_run(shared_folder: Path) -> Path:
    """A finished run with adapters; only to be read."""
    with only_once(shared_folder, "adapted") as (folder, is_new):
        if is_new:
            space = write_space(folder, **SPACE)
            done = run_cli("run", space, "--output", folder / "run")
            assert done.code == 0, done.err
            (folder / "out.txt").write_text(done.out)
        return folder / "run"


def sentence_of(run: Path) -> str:
    start = RunResults.load(RunFolder(run)).start
    assert start is not None
    assert start.keeps_adapters  # two steps mend no plain exit
    return start.sentence


def test_the_decision_is_shown(adapted_run: Path) -> None:
    sentence = sentence_of(adapted_run)
    shown = " ".join((adapted_run.parent / "out.txt").read_text().split())
    assert sentence in shown
    status = run_cli("status", adapted_run).out
    assert f"start:        {sentence}\n" in status
    assert "check of exit adapters:" in status  # its cost
    assert json.loads((adapted_run / "latency.json").read_text())["adapters"] is True


def test_a_resumed_run_goes_on_alike(adapted_run: Path, tmp_path: Path) -> None:
    run, space = shutil.copytree(adapted_run, tmp_path / "run"), tmp_path / "space.yaml"
    shutil.copy(adapted_run.parent / "space.yaml", space)
    sentence, checked = sentence_of(run), (run / "profile" / "start" / "plain" / "record.json")
    before = checked.stat().st_mtime_ns
    (run / "profile" / "adapters.safetensors").unlink()  # fitted again
    done = run_cli("run", space, "--output", run, "-o", "search.n_trials=4")
    assert done.code == 0, done.err
    assert sentence in " ".join((done.err + done.out).split())
    assert checked.stat().st_mtime_ns == before
    kept, again = (f / "profile" / "adapters.safetensors" for f in (adapted_run, run))
    assert kept.read_bytes() == again.read_bytes()
    early = [e for e in RunResults.load(RunFolder(run)).entries if min(e.depths) < 10]
    assert all((run / "trials" / f"{e.trial:04d}" / "method.yaml").is_file() for e in early)
    shutil.rmtree(run / "profile" / "start")
    done = run_cli("run", space, "--output", run, "-o", "search.n_trials=5")
    assert done.code == 5
    assert "All trials of this run started by one check" in done.err


def test_an_export_gives_the_samples_of_the_trial_again(adapted_run: Path, tmp_path: Path) -> None:
    space = adapted_run.parent / "space.yaml"
    method, weights = tmp_path / "m.yaml", tmp_path / "m.safetensors"
    argv = ("export", adapted_run, "--trial", 1, "-o", method, "--weights", weights)
    done = run_cli(*argv)
    assert done.code == 0, done.err
    assert "is a method file, since a schedule file cannot hold exit adapters" in done.out
    # The command line.
    out = tmp_path / "images.npz"
    argv = ("sample", space, "--method", method, "--num", 20, "--seed", 0, "--out", out)
    assert run_cli(*argv).code == 0
    images = torch.from_numpy(np.load(out)["images"]).permute(0, 3, 1, 2)
    save_grid(images, tmp_path / "grid.png")
    trial = adapted_run / "trials" / "0001"
    assert (tmp_path / "grid.png").read_bytes() == (trial / "samples.png").read_bytes()
    # Python, on the backbone of the space.
    assert run_cli(*argv, "--raw").code == 0
    found = schedsearch.sample(
        schedsearch.load_backbone(space),
        schedsearch.load_method(method),
        solver="dpm_solver",
        num_steps=3,
        num=20,
        seed=0,
    )
    np.testing.assert_array_equal(found.numpy(), np.load(out)["samples"])
    # What the file says.
    content = yaml.safe_load(method.read_text())
    assert content["schema"] == "schedsearch.method/1"
    assert content["kind"] == "schedule"
    assert content["network"] == {"adapters": {"exits": [3, 4, 6, 7, 9]}}
    assert content["weights"] == "m.safetensors"
    assert content["measured"]["fid"] == RunResults.load(RunFolder(adapted_run)).entries[1].fid
    assert content["backbone"]["fingerprint"].startswith("sha256:")
    assert content["provenance"]["trial"] == 1


def test_no_export_loses_the_adapters(adapted_run: Path, tmp_path: Path) -> None:
    space, weights = adapted_run.parent / "space.yaml", tmp_path / "m.safetensors"
    done = run_cli("export", adapted_run, "--trial", 1, "-o", tmp_path / "s.yaml")
    assert done.code == 2
    assert "exits of trial 1 run through trained adapters" in done.err
    assert "--weights" in done.err
    assert not (tmp_path / "s.yaml").exists()
    argv = ("export", adapted_run, "--trial", 1, "-o", tmp_path / "m.yaml", "--weights", weights)
    assert run_cli(*argv).code == 0
    wrong: list[tuple[object, ...]] = [
        ("--schedule", tmp_path / "m.yaml"),
        ("--schedule", "D4-DiT", "--weights", weights),
    ]
    for choice in wrong:
        done = run_cli("sample", space, *choice, "--out", tmp_path / "a.npz")
        assert done.code == 2
        assert "method" in done.err
        assert len(done.err.splitlines()) <= 2
    picked = run_cli("pick", adapted_run, "--max-fid", "1e9").out
    assert "-o method.yaml --weights method.safetensors" in picked
    # Full depth has none.
    full = run_cli("export", adapted_run, "--trial", 0, "-o", tmp_path / "f.yaml")
    assert full.code == 0, full.err
    assert schedsearch.load_schedule(tmp_path / "f.yaml").depths == (10,) * 10


def test_a_damaged_export_is_refused(adapted_run: Path, tmp_path: Path) -> None:
    space, weights = adapted_run.parent / "space.yaml", tmp_path / "m.safetensors"
    method = tmp_path / "m.yaml"
    argv = ("export", adapted_run, "--trial", 1, "-o", method, "--weights", weights)
    assert run_cli(*argv).code == 0
    weights.write_bytes(weights.read_bytes()[:-100])
    done = run_cli("sample", space, "--method", method, "--out", tmp_path / "a.npz")
    assert done.code == 2
    assert str(weights) in done.err
    method.write_text(method.read_text().replace("weights: m.safetensors\n", ""))
    done = run_cli("sample", space, "--method", method, "--out", tmp_path / "a.npz")
    assert done.code == 2
    assert "names no weights that hold them" in done.err


def test_the_profile_is_of_the_decided_start(adapted_run: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path, **{**SPACE, "profile": {"num_images": 4}})
    done = run_cli("profile", space, "--output", tmp_path / "run")
    assert done.code == 0, done.err
    assert sentence_of(adapted_run) in " ".join(done.err.split())
    assert "exit adapters" in done.out
    table = json.loads((tmp_path / "run" / "profile" / "error_table.json").read_text())
    assert table["exits"] == "adapters"
