"""Paths and the lock of a run."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.folder import RECORD_FILE, STATE_FILE, RunFolder


def test_places(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.trial(7) == tmp_path / "run" / "trials" / "0007"
    assert folder.weights(7) == folder.trial(7) / "ema.safetensors"
    retrained = folder.trial(7) / "retrained" / "seed-3" / "ema.safetensors"
    assert folder.retrained_weights(7, 3) == retrained
    assert folder.shared_weights == tmp_path / "run" / "profile" / "shared.safetensors"
    assert not folder.root.exists()  # nothing is made by looking
    folder.create()
    folder.create()
    assert sorted(p.name for p in folder.root.iterdir()) == ["artifacts", "trials"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"needs a writable folder.*--output"):
        RunFolder(tmp_path / "file" / "run").create()


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, fill_disk: Callable[[], None]) -> None:
    folder = RunFolder(tmp_path)
    folder.write(folder.costs_file, "old")
    folder.write(folder.costs_file, "new")
    assert folder.costs_file.read_text() == "new"
    fill_disk()
    with pytest.raises(
        StorageError, match=r"Cannot write .*costs\.json: .*No space left.*Free space"
    ):
        folder.write(folder.costs_file, "half")
    assert folder.costs_file.read_text() == "new"


def test_existing_runs_by_path_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"neither mine nor runs/mine does"):
        RunFolder.existing("mine")
    (run / "space.yaml").write_text("")
    assert RunFolder.existing("mine").root == run
    assert RunFolder.existing(str(run)).root == run
    assert RunFolder.existing("mine").shown == "runs/mine"


def test_half_written_files_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    places = [
        folder.root,
        folder.trial(3),
        folder.retrained_weights(3, 1).parent,
        folder.reference,
    ]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".ema.safetensors.123.tmp").write_text("half")
        (place / "kept.tmp").write_text("whole")
    folder.remove_leftovers()
    names = sorted(path.name for path in folder.root.rglob("*tmp"))
    assert names == ["kept.tmp"] * 4


def test_a_saved_state_goes_once_there_is_a_result(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (0, 1):
        folder.trial(number).mkdir(parents=True)
        (folder.trial(number) / STATE_FILE).write_text("state")
    (folder.trial(1) / RECORD_FILE).write_text("result")
    folder.remove_leftovers()
    assert [path.parent for path in tmp_path.rglob(STATE_FILE)] == [folder.trial(0)]


def test_one_driver(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not folder.has_live_driver()
    with folder.locked():
        assert folder.has_live_driver()
        owner = json.loads(folder.lock_file.read_text())
        assert owner == {"host": socket.gethostname(), "pid": os.getpid()}
        message = f"in use by process {os.getpid()} on "
        with pytest.raises(StorageError, match=message), RunFolder(tmp_path).locked():
            pass
        assert json.loads(folder.lock_file.read_text()) == owner
    assert not folder.has_live_driver()
    with folder.locked():
        pass


def test_a_killed_driver_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from schedsearch.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -9
    folder = RunFolder(tmp_path)
    assert folder.lock_file.exists()
    assert not folder.has_live_driver()
    with folder.locked():
        pass


def test_an_owner_that_cannot_be_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.lock_file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="in use by another process"), folder.locked():
            pass


def test_a_file_system_without_locks_is_no_other_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(handle: object, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    message = "a folder that can be locked.*No locks available"
    with pytest.raises(StorageError, match=message), RunFolder(tmp_path).locked():
        pass


@pytest.mark.parametrize("name", ["driver.lock", "driver.log", "trials/0000", "results.jsonl"])
def test_no_link_in_a_run_folder_is_followed(tmp_path: Path, name: str) -> None:
    folder, outside = RunFolder(tmp_path / "run"), tmp_path / "outside"
    folder.create()
    folder.space_file.write_text("name: x")
    outside.mkdir() if name.startswith("trials") else outside.write_text("mine")
    (folder.root / name).symlink_to(outside)
    for act in (folder.create, lambda: RunFolder.existing(str(folder.root))):
        with pytest.raises(StorageError, match=f"{name} is a link"):
            act()
    assert outside.is_dir() or outside.read_text() == "mine"


def test_a_pipe_in_a_run_folder_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    os.mkfifo(folder.results_file)
    with pytest.raises(StorageError, match=r"results\.jsonl is a device or pipe"):
        folder.create()


@pytest.mark.parametrize("name", ["driver.lock", "driver.log", "results.jsonl", "study.db"])
def test_nothing_is_written_through_a_hard_link(tmp_path: Path, name: str) -> None:
    folder, outside = RunFolder(tmp_path / "run"), tmp_path / "outside"
    folder.create()
    outside.write_text("mine")
    (folder.root / name).hardlink_to(outside)
    with pytest.raises(StorageError, match=f"{name} has a second name elsewhere"), folder.locked():
        pass
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["study.db", "driver.lock", "trials/0000/ema.safetensors"])
def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.root / name).mkdir(parents=True)
    with pytest.raises(StorageError, match=f"{name} is a folder in place of a file"):
        folder.create()


def test_a_run_without_its_space_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(StorageError, match=r"space\.yaml is gone.*backup"):
        RunFolder.existing(str(tmp_path))


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    RunFolder(tmp_path / "run").create()
