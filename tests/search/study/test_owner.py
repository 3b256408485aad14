"""One study, one run folder, whatever database it lies in."""

import shutil
from pathlib import Path

import pytest
from driving import settings_of

from schedsearch.exceptions import StorageError
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.checks.space_file import write_space
from schedsearch.runs.folder import RunFolder
from schedsearch.search.study.owner import OWNER, open_own_study
from schedsearch.settings import StudySettings


@pytest.fixture
def settings(tmp_path: Path) -> StudySettings:
    return settings_of(search={"storage": f"sqlite:///{tmp_path / 'shared.db'}"})


def folder_of(root: Path, settings: StudySettings) -> RunFolder:
    folder = RunFolder(root)
    folder.create()
    RunIdentity(
        data="a", num_images=1, reference="b", num_reference_images=2, extractor="c"
    ).write(folder)
    write_space(folder, settings)
    return folder


def test_the_owner_comes_back(tmp_path: Path, settings: StudySettings) -> None:
    ours = folder_of(tmp_path / "ours", settings)
    study = open_own_study(ours, settings)
    study.ask()
    owner = open_own_study(ours, settings).user_attrs[OWNER]
    assert {"run_id", "host", "pid", "started", "folder", "space_sha256"} == owner.keys()


def test_another_folder_is_refused_and_changes_nothing(
    tmp_path: Path, settings: StudySettings
) -> None:
    ours, theirs = (folder_of(tmp_path / name, settings) for name in ("ours", "theirs"))
    study = open_own_study(ours, settings)
    running = study.ask()
    with pytest.raises(StorageError, match=r"Change name or search\.storage") as caught:
        open_own_study(theirs, settings)
    assert f"the run in {ours.root}" in str(caught.value)
    assert "at work" in str(caught.value)
    assert study.user_attrs[OWNER]["folder"] == str(ours.root)
    assert study.trials[running.number].state.name == "RUNNING"


def test_a_copied_folder_is_another_one_and_a_moved_folder_is_not(
    tmp_path: Path, settings: StudySettings
) -> None:
    ours = folder_of(tmp_path / "ours", settings)
    open_own_study(ours, settings).ask()
    copy = RunFolder(Path(shutil.copytree(ours.root, tmp_path / "copy")))
    with pytest.raises(StorageError, match="belongs to one run folder"):
        open_own_study(copy, settings)
    shutil.rmtree(ours.root)
    assert open_own_study(copy, settings).user_attrs[OWNER]["folder"] == str(copy.root)


def test_trials_without_an_owner_are_left_alone(tmp_path: Path, settings: StudySettings) -> None:
    ours = folder_of(tmp_path / "ours", settings)
    study = open_own_study(ours, settings)
    study.ask()
    study.set_user_attr(OWNER, None)
    with pytest.raises(StorageError, match="trials of no known run"):
        open_own_study(ours, settings)


def test_a_study_in_the_folder_needs_no_owner(tmp_path: Path) -> None:
    plain = settings_of()
    ours = folder_of(tmp_path / "ours", plain)
    open_own_study(ours, plain).ask()
    ours.identity_file.unlink()
    assert len(open_own_study(ours, plain).trials) == 1
