"""What happens when the search's FIDs rank schedules otherwise than fresh seeds do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from driving import confirm_of, record_of, settings_of
from tiny_runs import records_of, run_cli, write_space

from schedsearch.exceptions import StorageError
from schedsearch.hand_made import FULL
from schedsearch.records import ConfirmRecord
from schedsearch.search.chosen import trials_to_confirm
from schedsearch.search.raised_rung import RaisedRung
from schedsearch.search.raising import rung_agreement
from schedsearch.search.results import RunResults
from schedsearch.search.run_folder import RunFolder

RECORDS = [
    record_of(n, (10 - n,) * 10, 2.0 + 0.1 * n, 100.0 - 10 * n, label=None if n else FULL)
    for n in range(7)
]
SEEDS = (1, 2)
RAISED = RaisedRung(tau=-1.0, num_schedules=6, num_steps=0)


def results_with(fids: dict[int, float], raised: RaisedRung | None = None) -> RunResults:
    noise = {1: 0.0, 2: 0.01}
    fresh = [confirm_of(n, s, fid + noise[s]) for n, fid in fids.items() for s in SEEDS]
    return RunResults(settings_of(evaluation={"confirm_seeds": 2}), RECORDS, None, fresh, raised)


def test_ranks_are_compared_over_what_was_confirmed() -> None:
    agrees = rung_agreement(results_with({n: 2.5 + 0.1 * n for n in range(6)}))
    assert agrees is not None
    assert (agrees.tau, agrees.num, agrees.lies) == (pytest.approx(1.0), 6, False)
    lies = rung_agreement(results_with({n: 3.5 - 0.1 * n for n in range(6)}))
    assert lies is not None
    assert (lies.tau, lies.lies) == (pytest.approx(-1.0), True)
    assert rung_agreement(results_with({0: 2.0, 1: 3.0})) is None


def test_one_fine_tune_is_no_judge_of_several() -> None:
    lies = results_with({n: 3.5 - 0.1 * n for n in range(6)})
    evaluation = replace(lies.settings.evaluation, seeds_per_trial=2, seed=0)
    settings = replace(lies.settings, evaluation=evaluation)
    fresh = [replace(record, seed=record.seed + 1) for record in lies.confirmations]
    several = RunResults(settings, RECORDS, None, fresh)
    assert all(entry.confirm_seeds == 2 for entry in several.entries[:6])
    assert rung_agreement(several) is None


def test_what_was_raised_is_judged_by_the_searchs_own_fids() -> None:
    """Or the raised FIDs would agree with themselves."""
    agreement = rung_agreement(results_with({n: 3.5 - 0.1 * n for n in range(7)}, RAISED))
    assert agreement is not None
    assert agreement.lies


def test_a_raised_rung_confirms_every_trial() -> None:
    fids = {n: 3.5 - 0.1 * n for n in range(6)}
    assert set(trials_to_confirm(results_with(fids))) < set(range(7))
    assert trials_to_confirm(results_with(fids, RAISED)) == list(range(7))


def test_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert RaisedRung.load(folder) is None
    RAISED.save(folder)
    assert RaisedRung.load(folder) == RAISED
    folder.raised_file.write_text("[]")
    with pytest.raises(StorageError, match="Delete it"):
        RaisedRung.load(folder)


@pytest.mark.slow
def test_a_run_whose_ranks_prove_wrong_measures_all_trials_anew(tmp_path: Path) -> None:
    """Confirmations of a real run are turned upside down; the same command goes on."""
    evaluation = {"confirm_seeds": 2, "confirm_steps": 1}
    space = write_space(tmp_path, evaluation=evaluation, search={"n_trials": 10})
    first = run_cli("run", space, "--output", tmp_path / "run")
    assert first.code == 0, first.err
    folder = RunFolder(tmp_path / "run")
    search = {entry.trial: entry.fid for entry in RunResults.load(folder).entries}
    lines = folder.confirmation_file.read_text().splitlines()
    records = [ConfirmRecord.from_json(line) for line in lines]
    turned = [replace(r, fid=100.0 - search[r.number]) for r in records]
    folder.confirmation_file.write_text("".join(r.to_json() + "\n" for r in turned))

    # Not all are confirmed yet, and by their own account the rest would take for ever.
    trials = [replace(record, seconds=1e6) for record in records_of(folder.root)]
    folder.results_file.write_text("".join(r.to_json() + "\n" for r in trials))
    short = run_cli("run", space, "-o", "search.budget.wall_clock=1e5", "--output", folder.root)
    assert short.code == 124, short.err
    assert "which search.budget has no room for" in short.err
    assert not folder.raised_file.exists()

    second = run_cli("run", space, "--output", tmp_path / "run")
    assert second.code == 0, second.err
    assert "So all trials are measured with fresh seeds after 1 further steps" in second.err
    assert json.loads(folder.raised_file.read_text())["num_steps"] == 1
    after = RunResults.load(folder)
    assert all(entry.confirm_seeds == 2 for entry in after.entries)
    assert all(folder.promoted(entry.trial).is_file() for entry in after.entries)
    assert all(entry.fid == entry.fid_confirmed for entry in after.entries)
    assert after.latency is not None
    assert {e.trial for e in after.front()} <= set(after.latency.measured)
    third = run_cli("run", space, "--output", tmp_path / "run")
    assert third.code == 0
    assert "further steps" not in third.err
