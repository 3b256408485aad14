"""What every whole run promises once it has ended."""

from pathlib import Path

import optuna
from optuna.trial import TrialState as OptunaState
from tiny_runs import records_of

from schedsearch.records import TrialRecord
from schedsearch.runs.checks.space_file import read_space
from schedsearch.runs.folder import RunFolder

FLAT = {depth: [depth] * 10 for depth in range(1, 11)}


def optuna_trials(run: Path) -> list[optuna.trial.FrozenTrial]:
    storage = storage_of(run) or f"sqlite:///{run / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)  # exactly one study
    return optuna.load_study(study_name=name, storage=storage).trials


def storage_of(run: Path) -> str | None:
    """URL of the database that a run names; None for ``study.db`` in its folder."""
    return read_space(RunFolder(run)).search.storage


def without_checksum(path: Path) -> str:
    """A space that may be edited: the first line of a run's copy holds its checksum."""
    text = path.read_text()
    return text.partition("\n")[2] if text.startswith("# checksum: ") else text


def mend(fault: str, space: Path, run: Path) -> None:
    """Take a fault out of a run's space, as an editor would: in the file and in the copy."""
    for path in (space, run / "space.yaml"):
        text = without_checksum(path)
        assert f": {fault}" in text
        path.write_text(text.replace(f": {fault}", ": out_of_memory_once"))
    for depth in FLAT:
        (space.parent / "traces" / f"depth_{depth}.fault").touch()  # it was there once


def check_promises(run: Path, n_trials: int) -> None:
    """What holds after every run that ended with 0."""
    complete = [r for r in records_of(run) if r.complete]
    assert len({r.depths for r in complete}) == len(complete) == n_trials
    trials = optuna_trials(run)
    assert all(trial.state.is_finished() for trial in trials)
    told = [
        t.number
        for t in trials
        if t.state is OptunaState.COMPLETE and "duplicate_of" not in t.user_attrs
    ]
    assert told == sorted(r.number for r in complete)
    for record in complete:
        folder = run / "trials" / f"{record.number:04d}"
        assert TrialRecord.from_json((folder / "record.json").read_text()) == record
        for name in ("schedule.yaml", "samples.png", "log.txt", "ema.safetensors"):
            assert (folder / name).stat().st_size > 0
        assert not (folder / "progress.pt").exists()
    names = {path.name for path in run.iterdir()}
    assert ("study.db" in names) == (storage_of(run) is None)
    assert {"space.yaml", "results.jsonl", "front.yaml", "front.csv"} <= names
    assert {"driver.log", "artifacts", "trials", "latency.json", "front.png"} <= names
    assert not list(run.rglob("*.tmp"))
