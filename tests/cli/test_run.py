"""``schedsearch run`` before it starts anything; whole runs are in search/test_campaign*.py."""

import sys
from pathlib import Path

import pytest
from tiny_runs import contents, run_cli, write_space

from schedsearch.cli.main import main
from schedsearch.runs.folder import RunFolder


def test_a_dry_run_says_what_would_happen_and_leaves_nothing(tmp_path: Path) -> None:
    space = write_space(tmp_path / "space")
    done = run_cli("run", space, "--output", tmp_path / "run", "--dry-run")
    assert done.code == 0, done.err
    for text in ("tiny, 43,758 schedules, 7 trials", "(new)", "D3-DiT", "saves", "disk, roughly"):
        assert text in done.out
    assert "nothing was started" in done.out
    assert done.err.startswith("Dry run of tiny: ")
    assert {path.name for path in tmp_path.iterdir()} == {"space"}


@pytest.mark.parametrize("command", ["run", "plan", "compare"])
def test_a_dry_run_speaks_before_its_slow_imports(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setitem(sys.modules, "schedsearch.search.preflight", None)
    argv = [command, str(write_space(tmp_path)), "--output", str(tmp_path / "run"), "--dry-run"]
    assert main(argv) == 1
    assert capsys.readouterr().err.startswith("Dry run of tiny: ")


def test_a_dry_run_on_a_run_leaves_it_as_it_is(run_copy: Path) -> None:
    before = contents(run_copy)
    done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy, "--dry-run")
    assert done.code == 0, done.err
    assert "(resumes)" in done.out
    assert contents(run_copy) == before


def test_one_driver_per_folder(run_copy: Path) -> None:
    with RunFolder(run_copy).locked():
        done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
        assert done.code == 5
        assert "in use by process" in done.err
        assert "driver:       at work" in run_cli("status", run_copy).out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainer": "trainers.ase:AseTrainr"}, "AseTrainr"),
        ({"trainer": "driving:Driver"}, "must be created without arguments"),
        ({"backbone": {"checkpoint": None}}, "checkpoint is missing"),
        ({"backbone": {"checkpoint": "missing.safetensors"}}, "missing.safetensors"),
        ({"data": {"source": "npz", "path": "missing.npz"}}, "missing.npz"),
        ({"warm_start": [[11] * 10]}, "warm_start"),
        ({"search": {"n_trials": 3}}, "n_trials"),
        ({"recipe": {"num_steps": 2, "batch_size": 64, "lr": 1.0, "lrr": 1}}, "lrr"),
        ({"resources": {"gpus_per_trial": 1}}, "gpus_per_trial"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_exit_2_before_the_first_trial(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    space = write_space(tmp_path / "space", **changes)
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 2
    assert message in done.err
    assert done.out == ""
    assert "internal error" not in done.err
    assert not (tmp_path / "run" / "study.db").exists()
    assert not list((tmp_path / "run").glob("trials/*"))


def test_a_mistake_in_the_first_start_can_be_put_right(tmp_path: Path) -> None:
    """A start that never came to a trial does not bind the folder to its space."""
    broken = write_space(tmp_path / "a", trainer="driving:Driver")
    first = run_cli("run", broken, "--output", tmp_path / "run")
    assert first.code == 2
    assert "driving:Driver" in first.err
    fixed = write_space(tmp_path / "b")
    done = run_cli("run", fixed, "--output", tmp_path / "run", "--dry-run")
    assert done.code == 0, done.err
    assert "(new)" in done.out
    assert "7 trials" in done.out


def test_a_cluster_needs_ray(tmp_path: Path) -> None:
    space = write_space(tmp_path / "space")
    done = run_cli("run", space, "--output", tmp_path / "run", "--address", "auto")
    assert done.code == 2
    assert "--address needs resources.backend: ray" in done.err


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_cli("run", write_space(tmp_path), "--output", tmp_path / "file" / "run")
    assert done.code == 2
    assert f"{tmp_path / 'file'} is no folder. Choose another name." in done.err
