"""The Optuna study: opened, checked, and what its failures look like."""

import contextlib
import sqlite3
from pathlib import Path

import optuna
import pytest

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.search.study import storage as storage_module
from schedsearch.search.study.storage import (
    explaining_failures,
    open_artifacts,
    open_storage,
    open_study,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def filled(folder: RunFolder) -> optuna.Study:
    study = open_study(open_storage(folder, None), "tiny")
    study.add_trial(optuna.create_trial(values=[1.0, 2.0]))
    return study


def test_one_study_with_named_objectives(folder: RunFolder) -> None:
    filled(folder)
    again = open_study(open_storage(folder, None), "tiny")
    assert [t.values for t in again.trials] == [[1.0, 2.0]]
    assert again.metric_names == ["fid", "latency_ms"]
    assert [d.name for d in again.directions] == ["MINIMIZE", "MINIMIZE"]
    url = f"sqlite:///{folder.study_file}"
    assert optuna.get_all_study_names(url) == ["tiny"]


def test_a_dashboard_never_blocks_the_driver(folder: RunFolder) -> None:
    study = filled(folder)
    with contextlib.closing(sqlite3.connect(folder.study_file)) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM trials").fetchall()
        study.add_trial(optuna.create_trial(values=[3.0, 4.0]))
    assert len(study.trials) == 2


@pytest.mark.parametrize("damage", ["text", "half", "zeroed"])
def test_a_damaged_file_is_said_in_one_line(folder: RunFolder, damage: str) -> None:
    filled(folder)._storage.remove_session()
    for path in folder.root.glob("study.db-*"):
        path.unlink()
    content = folder.study_file.read_bytes()
    if damage == "text":
        content = b"not a database\n" * 100
    elif damage == "half":
        content = content[: len(content) // 2]
    else:
        content = content[:8192] + bytes(len(content) - 8192)
    folder.study_file.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        open_study(open_storage(folder, None), "tiny")
    assert "move it away and run the same command again" in str(caught.value)
    assert "results.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "SELECT" not in str(caught.value)


def test_a_study_of_another_program(folder: RunFolder) -> None:
    optuna.create_study(storage=f"sqlite:///{folder.study_file}", study_name="tiny")
    with pytest.raises(StorageError, match="has 1 objective"):
        open_study(open_storage(folder, None), "tiny")


def test_a_locked_file(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "LOCK_SECONDS", 0.1)
    study = filled(folder)
    with contextlib.closing(sqlite3.connect(folder.study_file)) as backup:
        backup.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="locked"):
            open_study(open_storage(folder, None), "other")
        with (
            pytest.raises(StorageError, match=r"cannot be read or written: database is locked"),
            explaining_failures("tiny"),
        ):
            study.add_trial(optuna.create_trial(values=[3.0, 4.0]))


def test_other_storages(folder: RunFolder) -> None:
    path = folder.root / "elsewhere.db"
    open_study(open_storage(folder, f"sqlite:///{path}"), "tiny")
    assert path.exists()
    assert not folder.study_file.exists()
    with pytest.raises(ConfigError, match="names a database that Optuna cannot use"):
        open_storage(folder, "nonsense://x")
    with pytest.raises(ConfigError, match="the folder of that file does not exist"):
        open_storage(folder, "sqlite:////nowhere/at/all.db")


def test_artifacts_lie_in_the_run(folder: RunFolder) -> None:
    (folder.root / "picture.png").write_bytes(b"picture")
    study = open_study(open_storage(folder, None), "tiny")
    name = optuna.artifacts.upload_artifact(
        artifact_store=open_artifacts(folder),
        file_path=str(folder.root / "picture.png"),
        study_or_trial=study,
    )
    assert (folder.artifacts / name).read_bytes() == b"picture"
