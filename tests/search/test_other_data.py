"""Resuming with other data, or beside a run of the same name in one database."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import contents, run_cli, write_space
from whole_runs import without_checksum

from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.folder import RunFolder


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_other_data_behind_the_same_path_is_refused(run_copy: Path, more: tuple[str]) -> None:
    folder = RunFolder(run_copy)
    identity = RunIdentity.read(folder)
    assert identity is not None
    replace(identity, data="sha256:other", num_images=5).write(folder)
    space = run_copy.parent / "space.yaml"
    done = run_cli("run", space, "-o", "search.n_trials=8", "--output", run_copy, *more)
    assert done.code == 2
    assert "data: sha256:other -> sha256:" in done.err
    assert "num_images: 5 -> 1797" in done.err


def test_results_of_another_protocol_are_refused_without_an_identity(run_copy: Path) -> None:
    (run_copy / "run.json").unlink()
    space = run_copy.parent / "space.yaml"
    assert run_cli("run", space, "--output", run_copy).code == 0
    assert (run_copy / "run.json").is_file()


def test_both_values_of_a_changed_key_are_shown(complete_run: Path) -> None:
    space = complete_run.parent / "space.yaml"
    done = run_cli("run", space, "-o", "recipe.lr=1.0e-3", "--output", complete_run)
    assert done.code == 2
    assert "recipe.lr 0.0005 -> 0.001" in done.err


def test_a_shared_database_keeps_two_folders_apart(run_copy: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    space = run_copy.parent / "space.yaml"
    for file in (space, run_copy / "space.yaml"):
        text = without_checksum(file)
        old = "storage: null" if "storage: null" in text else "search:\n"
        new = f"storage: {url}" if "storage: null" in text else f"search:\n  storage: {url}\n"
        file.write_text(text.replace(old, new))
    first = run_cli("run", space, "--output", run_copy)
    assert first.code == 0, first.err
    second = run_cli("run", space, "--output", tmp_path / "second")
    assert second.code == 5
    assert "Change name or search.storage" in second.err
    assert str(run_copy) in second.err
    assert run_cli("recover", run_copy).code == 0
    assert "done:         7 of 7" in run_cli("status", run_copy).out


def test_status_makes_nothing_and_check_tests_the_url(run_copy: Path, tmp_path: Path) -> None:
    file = run_copy / "space.yaml"
    url = f"sqlite:///{tmp_path / 'new.db'}"
    file.write_text(without_checksum(file).replace("storage: null", f"storage: {url}"))
    before = contents(tmp_path)
    assert run_cli("status", run_copy).code == 0
    assert contents(tmp_path) == before
    wrong = write_space(tmp_path / "wrong", search={"storage": "foo://bob:secret@host/x"})
    done = run_cli("check", wrong)
    assert done.code == 2
    assert "search.storage names a database" in done.err
    assert "secret" not in done.err
