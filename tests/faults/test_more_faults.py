"""Faults that belong to no single module."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from driving import Driver, settings_of
from safetensors.torch import load_file
from tiny_runs import Done, only_once, run_cli, write_space

from schedsearch.exceptions import StorageError
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.checks.space_file import write_space as write_run_space
from schedsearch.runs.folder import RunFolder
from schedsearch.search import start
from schedsearch.search.study import storage
from schedsearch.search.study.owner import OWNER, open_own_study

ODD = "größe 実験 $HOME 'x"


@pytest.fixture(scope="module")
def odd_run(shared_folder: Path) -> tuple[Path, str]:
    """A run under an odd name with fewer samples than features, and what it printed."""
    with only_once(shared_folder, ODD) as (folder, is_new):
        if is_new:
            space = write_space(
                folder,
                warm_start=["full", "D2-DiT"],
                search={"n_trials": 2},
                evaluation={"num_samples": 16, "latency_batch": 1},
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(start, "network_file_system", lambda _: "nfs4")
                done = run_cli("run", space, "--output", folder / "run")
            assert done.code == 0, done.err
            (folder / "err.txt").write_text(done.err)
        return folder / "run", (folder / "err.txt").read_text()


def test_fewer_samples_than_features_are_said_with_both_numbers(
    odd_run: tuple[Path, str],
) -> None:
    _, err = odd_run
    assert "evaluation.num_samples is 16, and digits has 64 features" in " ".join(err.split())


def test_blanks_and_unicode_in_paths(odd_run: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = odd_run

    def command(*words: object) -> Done:
        done = run_cli(*words)
        assert done.code == 0, done.err
        return done

    assert "D2-DiT" in command("front", run).out
    assert "done:         2" in command("status", run).out
    command("pick", run, "--knee")
    target = tmp_path / ODD / "mine.yaml"
    target.parent.mkdir()
    weights = target.with_suffix(".safetensors")
    command("export", run, "--trial", 1, "-o", target, "--weights", weights)
    kept = run / "trials" / "0001" / "ema.safetensors"
    assert load_file(weights).keys() == load_file(kept).keys()


def test_a_network_file_system_has_no_write_ahead_log(
    odd_run: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "lies on nfs4, where SQLite's locks may fail" in " ".join(odd_run[1].split())
    monkeypatch.setattr(storage, "network_file_system", lambda _: "nfs4")
    Driver(tmp_path, settings_of())
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("delete",)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import write_text
from schedsearch.records import ConfirmRecord
from schedsearch.runs.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
folder = Path(sys.argv[1])
record = ConfirmRecord(number=1, seed=1, num_samples=1, fid=1.0, kid=1.0, sample_std=1.0,
                       features="x" * 100)
journal = Journal(folder / "lines.jsonl", ConfirmRecord.from_json)
write_text(folder / "old.txt", "old")
try:
    while True:
        journal.append(record)
except StorageError as error:
    print(error)
try:
    write_text(folder / "old.txt", "new" * 2000)
except OSError as error:
    print(error)
print(len(journal.read()))
"""


def test_a_file_system_that_refuses_more_leaves_whole_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, second, count = done.stdout.splitlines()
    assert "Free space and run the same command again" in refused
    assert "File too large" in second
    text = (tmp_path / "lines.jsonl").read_text()
    assert text.endswith("}\n")
    assert len(text.splitlines()) == int(count) > 5
    assert (tmp_path / "old.txt").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"lines.jsonl", "old.txt"}


def test_a_process_number_that_is_used_again_is_no_owner(tmp_path: Path) -> None:
    settings = settings_of(search={"storage": f"sqlite:///{tmp_path / 'shared.db'}"})
    identity = {"data": "a", "num_images": 1, "reference": "b", "num_reference_images": 2}
    folders = [RunFolder(tmp_path / name) for name in ("ours", "theirs")]
    for folder in folders:
        folder.create()
        write_run_space(folder, settings)
        RunIdentity(**identity, extractor="c").write(folder)  # type: ignore[arg-type]
    study = open_own_study(folders[0], settings)
    study.ask()
    for started, state in ((study.user_attrs[OWNER]["started"], "at work"), ("1", "not running")):
        study.set_user_attr(OWNER, {**study.user_attrs[OWNER], "started": started})
        with pytest.raises(StorageError, match=state):
            open_own_study(folders[1], settings)
