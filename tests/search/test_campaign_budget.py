"""The budget of a whole run ends its trials, and nothing else."""

from pathlib import Path

import pytest
from tiny_runs import faulty_space, records_of, run_cli, trainings
from whole_runs import FLAT, check_promises, mend

from schedsearch.records import ConfirmRecord
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.journal import Journal
from schedsearch.runs.results import RunResults
from schedsearch.search.meter import Meter


@pytest.mark.slow
def test_a_spent_budget_exits_124_and_a_larger_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = faulty_space(
        tmp_path,
        {9: "hangs"},
        warm_start=["full", FLAT[9]],
        evaluation={"confirm_seeds": 2},
        search={"n_trials": 2, "budget": {"device_hours": 1e-6}},
    )
    folder = RunFolder(tmp_path / "run")
    confirmations = Journal(folder.confirmation_file, ConfirmRecord.from_json)

    # The checks before the first trial take it all.
    done = run_cli("run", space, "--output", folder.root)
    assert done.code == 124, done.err
    assert "The budget is used up" in done.out
    assert "of 1e-06 device-hours" in run_cli("status", folder.root).out
    assert trainings(tmp_path) == []

    # It is spent while a trial hangs: what has ended is still measured and confirmed.
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "_overrun", lambda *_: (9,) * 10 in trainings(tmp_path))
        done = run_cli("run", space, "--output", folder.root)
    assert done.code == 124, done.err
    assert "1 job(s) did not end in time. Their saved progress is kept." in done.err
    assert [r.label for r in records_of(folder.root)] == ["full"]
    results = RunResults.load(folder)
    assert [e.latency.source for e in results.entries] == ["measured"]
    first = confirmations.read()
    assert [(r.number, r.seed) for r in first] == [(0, 1), (0, 2)]
    assert "interrupted:  1 (trials 1)" in run_cli("status", folder.root).out

    # A larger one does the rest, and nothing again.
    mend("hangs", space, folder.root)
    larger = ("-o", "search.budget.device_hours=1")
    done = run_cli("run", space, *larger, "--output", folder.root)
    assert done.code == 0, done.err
    check_promises(folder.root, 2)
    assert trainings(tmp_path).count((10,) * 10) == 1
    assert confirmations.read()[:2] == first
    assert len({(r.number, r.seed) for r in confirmations.read()}) == len(confirmations.read())
