"""Open trials of a study, read without touching it."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from driving import Driver, settings_of
from tiny_runs import contents

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.search.study.running import running_trials


def test_running_trials_while_a_driver_works(tmp_path: Path) -> None:
    driver = Driver(tmp_path, settings_of())
    driver.prepare()
    first, _ = driver.ask(), driver.ask()
    before = contents(tmp_path)
    assert running_trials(driver.folder, driver.settings) == [0, 1]
    assert contents(tmp_path) == before
    driver.answer(first)
    assert running_trials(driver.folder, driver.settings) == [1]


def test_a_finished_run_is_left_as_it_is(run_copy: Path) -> None:  # no other test opens a copy
    with closing(sqlite3.connect(run_copy / "study.db")) as connection:  # its last user leaves
        connection.execute("SELECT number FROM trials").fetchall()
    assert not (run_copy / "study.db-wal").exists()
    before = contents(run_copy)
    assert running_trials(RunFolder(run_copy), settings_of()) == []
    assert contents(run_copy) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run(run_copy: Path) -> None:
    run_copy.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert running_trials(RunFolder(run_copy), settings_of()) == []
    finally:
        run_copy.chmod(stat.S_IRWXU)


def test_no_study_has_no_trials(tmp_path: Path) -> None:
    assert running_trials(RunFolder(tmp_path), settings_of()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_study(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.study_file.write_bytes(b"damaged" * 1000)
    with pytest.raises(StorageError, match="move it away"):
        running_trials(folder, settings_of())


def test_another_storage_that_is_not_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    missing = settings_of(search={"storage": f"sqlite:///{tmp_path / 'no' / 'where.db'}"})
    with pytest.raises(ConfigError, match="the folder of that file does not exist"):
        running_trials(folder, missing)
    empty = settings_of(search={"storage": f"sqlite:///{tmp_path / 'empty.db'}"})
    assert running_trials(folder, empty) == []


def test_running_trials_in_another_storage(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "run", settings_of())
    driver.prepare()
    driver.ask()
    elsewhere = settings_of(search={"storage": f"sqlite:///{driver.folder.study_file}"})
    assert running_trials(RunFolder(tmp_path), elsewhere) == [0]
