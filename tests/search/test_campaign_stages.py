"""A run with every stage: shared fine-tune, seeds, continued fine-tunes, auditor, budget."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import (
    children_of,
    is_alive,
    only_once,
    records_of,
    run_cli,
    same_weights,
    start_cli,
    wait_until,
    write_space,
)

from schedsearch.config import read_settings
from schedsearch.records import ConfirmRecord
from schedsearch.report.findings import findings_of
from schedsearch.runs.costs import Costs
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults

STAGES: Mapping[str, Any] = {
    "profile": {"num_steps": 1, "num_images": 4, "start": "shared"},
    "warm_start": ["full", "D3-DiT"],
    "evaluation": {
        "confirm_seeds": 2,
        "runoff_seeds": 1,
        "confirm_steps": 1,
        "bootstrap": 5,
        "auditor": "digits_mlp",
    },
    "search": {"n_trials": 6, "dp_seeds": 2},
    "resources": {"num_workers": 2},
}


@pytest.fixture(scope="module")
def staged(shared_folder: Path) -> Path:
    """A finished run with all stages, whose driver was killed in the middle of each of three."""
    with only_once(shared_folder, "staged") as (folder, is_new):
        if is_new:
            space, log = write_space(folder, **STAGES), folder / "log.txt"
            run = RunFolder(folder / "run")
            for reached in (
                lambda: (run.profile / "schedules" / "made_from.json").exists(),
                lambda: len(records_of(run.root)) >= 2,
                lambda: any(run.root.glob("trials/*/promoted.safetensors")),
            ):
                driver = start_cli("run", space, "--output", run.root, log=log)
                wait_until(reached, 600)  # type: ignore[arg-type]
                workers = children_of(driver.pid)
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait(timeout=60)
                wait_until(lambda w=workers: not any(map(is_alive, w)), 20)  # type: ignore[misc]
            done = run_cli("run", space, "--output", run.root)
            (folder / "done.json").write_text(json.dumps([done.code, done.out, done.err]))
        return folder


@pytest.mark.slow
class TestAllStages:
    def test_it_ends_well_after_three_kills(self, staged: Path) -> None:
        code, out, err = json.loads((staged / "done.json").read_text())
        assert code == 0, err
        complete = [r for r in records_of(staged / "run") if r.complete]
        assert len({r.depths for r in complete}) == len(complete) == 6
        assert "Where the time went:" in out
        assert "Traceback" not in out + err + (staged / "log.txt").read_text()
        assert not list((staged / "run").rglob("*.tmp"))
        assert not list((staged / "run").rglob("progress.pt"))

    def test_seeds_of_the_table_are_searched_and_known_as_such(self, staged: Path) -> None:
        records = records_of(staged / "run")
        seeds = [r for r in records if r.origin == "dp"]
        assert 1 <= len(seeds) <= 2  # two of few differ for three solver steps
        assert all(r.label is None for r in seeds)
        results = RunResults.load(RunFolder(staged / "run"))
        assert {e.trial for e in results.searched()} >= {r.number for r in seeds}
        assert {e.trial for e in results.entries if e.origin == "dp"} == {r.number for r in seeds}

    def test_promoted_weights_are_confirmed_and_exported(
        self, staged: Path, tmp_path: Path
    ) -> None:
        folder = RunFolder(staged / "run")
        lines = folder.confirmation_file.read_text().splitlines()
        records = [ConfirmRecord.from_json(line) for line in lines]
        evaluation = read_settings(folder.space_file, []).evaluation
        verdicts = [r for r in records if r.seed in evaluation.confirm_seeds_used]
        runoffs = [r for r in records if r.seed in evaluation.runoff_seeds_used]
        assert len(verdicts) + len(runoffs) == len(records)
        assert {r.num_steps for r in verdicts} == {1}
        assert {r.num_steps for r in runoffs} <= {0}
        assert len({(r.number, r.seed) for r in verdicts}) == len(verdicts)
        promoted = {r.number for r in verdicts}
        assert all(folder.promoted(number).is_file() for number in promoted)
        number = min(promoted)
        assert not same_weights(folder.weights(number), folder.promoted(number))
        done = run_cli(
            "export", folder.root, "--trial", number,
            "-o", tmp_path / "s.yaml", "--weights", tmp_path / "w.safetensors",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert same_weights(tmp_path / "w.safetensors", folder.promoted(number))

    def test_an_auditor_judges_beside_the_first_extractor(self, staged: Path) -> None:
        results = RunResults.load(RunFolder(staged / "run"))
        confirmed = [e for e in results.entries if e.fid_confirmed is not None]
        assert confirmed
        assert all(e.fid_audited not in (None, e.fid_confirmed) for e in confirmed)
        assert [(c.preset, c.rival) for c in results.audit()] == [
            (c.preset, c.rival) for c in results.comparisons()
        ]
        (record, *_) = results.confirmations
        assert record.fid_ci95 is not None
        assert record.fid_ci95[0] < record.fid_ci95[1]
        assert {e.fid_ci95_over for e in confirmed} == {"images"}
        for found in findings_of(results).schedules:  # the table's interval is that of front.yaml
            (entry,) = (e for e in results.entries if e.trial == found.trial)
            if found.fresh is not None:
                mean, half = found.fresh
                assert entry.fid_ci95 == pytest.approx((mean - half, mean + half))

    def test_every_stage_has_its_cost(self, staged: Path) -> None:
        costs = Costs.load(RunFolder(staged / "run"))
        assert {"trials", "final latency", "promotion", "confirmation"} <= set(costs.stages)
        assert {"profile", "interrupted"} & set(costs.stages)  # a kill may hit its last moment
        # A worker may end its trial after the kill; what its driver saw of it is "interrupted".
        lost = 6 - costs.of("trials").jobs
        assert 0 <= lost <= 2
        assert lost == 0 or costs.of("interrupted").device_seconds > 0
        assert costs.in_flight_seconds == 0
        shown = run_cli("status", staged / "run").out
        assert all(stage in shown for stage in costs.stages)

    def test_a_finished_run_is_only_shown_again(self, staged: Path) -> None:
        before = (staged / "run" / "costs.json").read_bytes()
        done = run_cli("run", staged / "space.yaml", "--output", staged / "run")
        assert done.code == 0, done.err
        assert (staged / "run" / "costs.json").read_bytes() == before


@pytest.mark.slow
def test_verdicts_over_training_seeds_survive_a_kill(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        warm_start=["full", "D3-DiT"],
        evaluation={
            "confirm_seeds": 2,
            "runoff_seeds": 1,
            "runoff_training_seeds": 1,
            "confirm_training_seeds": 2,
            "control_samples": 128,
            "auditor": "digits_mlp",
        },
        search={"n_trials": 6},
        resources={"num_workers": 2},
    )
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "log.txt"
    driver = start_cli("run", space, "--output", folder.root, log=log)
    wait_until(lambda: '"training_seed":1' in _text(folder.confirmation_file), 600)
    workers = children_of(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(timeout=60)
    wait_until(lambda: not any(map(is_alive, workers)), 20)
    done = run_cli("run", space, "--output", folder.root)
    assert done.code == 0, done.err
    records = [ConfirmRecord.from_json(x) for x in _text(folder.confirmation_file).splitlines()]
    measured = [(r.number, r.training_seed, r.seed) for r in records]
    assert len(set(measured)) == len(measured)
    results = RunResults.load(folder)
    (preset,) = results.hand_made()
    assert {r.training_seed for r in records if r.seed == 3} == {3}  # the runoff, anew alone
    (found,) = results.comparisons()
    assert (found.num_training_seeds, found.num_seeds) == (2, 2)
    of = {(r.number, r.training_seed, r.seed): r.fid for r in records if r.training_seed in (1, 2)}
    steps = [of[found.rival, t, s] - of[preset.trial, t, s] for t in (1, 2) for s in (1, 2)]
    assert found.difference == pytest.approx(sum(steps) / 4)
    assert [c.num_training_seeds for c in results.audit()] == [2]
    assert "over 2 fresh training seeds x 2 fresh evaluation seeds" in " ".join(done.out.split())
    assert "Traceback" not in done.out + done.err + log.read_text()
    assert not list(folder.root.rglob("progress.pt"))
    shown = json.loads(run_cli("front", folder.root, "--format", "json").out)
    assert {entry["control_samples"] for entry in shown} == {128}
    assert "FID (digits CNN, n=64, control n=128)" in done.out
    assert Costs.load(folder).of("control images").jobs == 2
    assert findings_of(results).curse is None  # plain FIDs do not compare with corrected ones


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
def test_a_spent_budget_exits_124_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        warm_start=["full"],
        search={"n_trials": 2, "budget": {"device_hours": 1e-6}},
    )
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 124, done.err
    assert "The budget has no room for more" in done.out
    status = run_cli("status", tmp_path / "run").out
    assert "of 1e-06 device-hours" in status
    assert records_of(tmp_path / "run") == []  # the checks before the first trial took it all
    larger = ("-o", "search.budget.device_hours=1")
    assert run_cli("run", space, *larger, "--output", tmp_path / "run").code == 0
    assert len(records_of(tmp_path / "run")) == 2


@pytest.mark.slow
def test_trials_from_other_shared_weights_do_not_join_a_run(tmp_path: Path) -> None:
    profile = {"num_steps": 1, "num_images": 4, "start": "shared"}
    space = write_space(
        tmp_path, profile=profile, warm_start=["full"], recipe={"num_steps": 0},
        search={"n_trials": 2},
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    first = run_cli("run", space, "--output", folder.root)
    assert first.code == 0, first.err
    shared = folder.shared_weights("schedules")
    assert all(folder.weights(n).samefile(shared) for n in (0, 1))
    shared.unlink()
    more = run_cli("run", space, "-o", "search.n_trials=3", "--output", folder.root)
    assert more.code == 5
    assert "those of this run's trials are gone from" in more.err
    assert len(records_of(folder.root)) == 2
