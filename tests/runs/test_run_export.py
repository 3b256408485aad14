"""A finished schedule as a file of its own."""

import getpass
import hashlib
import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schedsearch.backbones.weights.checkpoint import fingerprint_of
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.export import export_schedule
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults
from schedsearch.schedules.schedule_file import read_schedule_file


@pytest.fixture
def run(complete_run: Path) -> tuple[RunFolder, RunResults]:
    folder = RunFolder(complete_run)
    return folder, RunResults.load(folder)


def test_a_file_that_says_where_its_numbers_come_from(
    run: tuple[RunFolder, RunResults], tmp_path: Path
) -> None:
    folder, results = run
    entry = results.hand_made()[0]
    export_schedule(folder, results, entry, tmp_path / "s.yaml", tmp_path / "w.safetensors")
    file = read_schedule_file(tmp_path / "s.yaml")
    assert (file.name, file.depths, file.weights) == ("D2-DiT", entry.depths, "w.safetensors")
    assert (file.backbone.family, file.backbone.num_exit_blocks) == ("dit", 10)
    weights = load_file(tmp_path / "w.safetensors")
    assert file.backbone.fingerprint == fingerprint_of(weights)
    held_out = entry.held_out_fid
    assert held_out is not None
    measured = {
        "fid": entry.fid,
        "latency_ms": entry.latency_ms,
        "latency_source": "measured",
        "acceleration": entry.latency.acceleration,
        "num_samples": 64,
        "features": "digits CNN",
        "solver": "dpm_solver",
        "num_steps": 3,
        "cfg_scale": 1.0,
        "batch": 8,
        "fid_held_out": held_out.mean,
        "fid_ci95": list(held_out.ci95),
        "fid_ci95_over": "2 held-out evaluation seeds, n=64",
    }
    assert measured.items() <= file.measured.items()
    protocol = json.loads(folder.latency_file.read_text())["table"]["protocol"]
    assert file.measured["device"] == protocol["device"]
    assert file.measured["device"].startswith("cpu")
    assert "name" not in file.measured  # the solver's, which stands under "solver"
    assert set(file.provenance) == {"study", "trial", "space_sha256", "seed", "versions"}
    assert file.provenance["study"] == "tiny"
    assert file.provenance["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert file.provenance["trial"] == entry.trial == 1
    space = folder.space_file.read_bytes()
    assert file.provenance["space_sha256"] == hashlib.sha256(space).hexdigest()


def test_a_shared_run_says_that_one_file_serves_the_whole_front(
    run: tuple[RunFolder, RunResults], tmp_path: Path
) -> None:
    folder, results = run
    shared = replace(results.settings, recipe=replace(results.settings.recipe, weights="shared"))
    results = RunResults(shared, results.records, results.latency, [])
    export_schedule(folder, results, results.entries[0], tmp_path / "s.yaml", None)
    file = read_schedule_file(tmp_path / "s.yaml")
    words = "one file serves every schedule of this run but full depth"
    assert file.provenance["weights"] == words
    assert "fid_held_out" not in file.measured  # nothing was confirmed


def test_nothing_private(run: tuple[RunFolder, RunResults], tmp_path: Path) -> None:
    folder, results = run
    for entry in results.entries:
        export_schedule(folder, results, entry, tmp_path / "s.yaml", tmp_path / "w.safetensors")
        text = (tmp_path / "s.yaml").read_text()
        for private in (str(tmp_path), str(folder.root), str(Path.home()), socket.gethostname()):
            assert private not in text
        assert getpass.getuser() not in text.split()


def test_without_weights_nothing_is_copied(
    run: tuple[RunFolder, RunResults], tmp_path: Path
) -> None:
    folder, results = run
    export_schedule(folder, results, results.searched()[0], tmp_path / "s.yaml", None)
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
    file = read_schedule_file(tmp_path / "s.yaml")
    assert file.weights is None
    assert file.name == f"tiny-trial-{results.searched()[0].trial:04d}"
    kept = load_file(folder.weights(results.searched()[0].trial))
    assert file.backbone.fingerprint == fingerprint_of(kept)


def test_weights_lie_where_the_file_can_name_them(
    run: tuple[RunFolder, RunResults], tmp_path: Path
) -> None:
    folder, results = run
    entry = results.entries[0]
    (tmp_path / "a" / "deep").mkdir(parents=True)
    output = tmp_path / "a" / "s.yaml"
    export_schedule(folder, results, entry, output, tmp_path / "a" / "deep" / "w.safetensors")
    assert read_schedule_file(output).weights == "deep/w.safetensors"
    with pytest.raises(ConfigError, match="must lie in the folder of"):
        export_schedule(folder, results, entry, output, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_weights_that_are_gone(run_copy: Path, tmp_path: Path) -> None:
    folder = RunFolder(run_copy)
    results = RunResults.load(folder)
    entry = results.entries[0]
    folder.weights(entry.trial).unlink()
    with pytest.raises(StorageError, match=f"weights of trial {entry.trial} should be in"):
        export_schedule(folder, results, entry, tmp_path / "s.yaml", None)
    shutil.rmtree(folder.trial(entry.trial))
    with pytest.raises(ConfigError, match=r"Cannot read .*schedule\.yaml"):
        export_schedule(folder, results, entry, tmp_path / "s.yaml", None)
    assert not (tmp_path / "s.yaml").exists()
