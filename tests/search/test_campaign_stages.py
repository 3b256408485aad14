"""Runs with every stage: error table, held-out seeds, retraining, auditor; shared weights."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedCli
from tiny_runs import (
    children_of,
    is_alive,
    only_once,
    records_of,
    run_cli,
    same_weights,
    wait_until,
    write_space,
)

from schedsearch.config.checkpoint_paths import locate_weights
from schedsearch.planning.error_table import ErrorTable
from schedsearch.records import ConfirmRecord
from schedsearch.runs.costs import Costs
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.journal import Journal
from schedsearch.runs.results import RunResults

STAGES: Mapping[str, Any] = {
    "profile": {"num_images": 4},
    "warm_start": ["full", "D2-DiT"],
    "recipe": {"num_steps": 2, "batch_size": 16, "save_every": 1},
    "evaluation": {"confirm_seeds": 2, "confirm_training_seeds": 2, "auditor": "digits_mlp"},
    "search": {"n_trials": 5, "dp_seeds": 2},
    "resources": {"num_workers": 2},
}


def confirmations_of(run: Path) -> list[ConfirmRecord]:
    return Journal(RunFolder(run).confirmation_file, ConfirmRecord.from_json).read()


@pytest.fixture(scope="module")
def staged(shared_folder: Path) -> Path:
    """A finished run with all stages, whose driver was killed while it retrained."""
    with only_once(shared_folder, "staged") as (folder, is_new):
        if is_new:
            space, run = write_space(folder, **STAGES), folder / "run"
            driver = ForkedCli("run", space, "--output", run, log=folder / "log.txt")
            wait_until(lambda: any(r.training_seed for r in confirmations_of(run)), 600)
            workers = children_of(driver.pid)
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
            wait_until(lambda: not any(map(is_alive, workers)))
            done = run_cli("run", space, "--output", run)
            (folder / "done.json").write_text(json.dumps([done.code, done.out, done.err]))
        return folder


@pytest.mark.slow
class TestAllStages:
    def test_it_ends_well_after_a_kill(self, staged: Path) -> None:
        code, out, err = json.loads((staged / "done.json").read_text())
        assert code == 0, err
        complete = [r for r in records_of(staged / "run") if r.complete]
        assert len({r.depths for r in complete}) == len(complete) == 5
        assert "Traceback" not in out + err + (staged / "log.txt").read_text()
        for left in ("*.tmp", "progress.pt", "retrained/*/*.safetensors"):
            assert not list((staged / "run").rglob(left))

    def test_schedules_of_the_table_are_searched_and_known_as_such(self, staged: Path) -> None:
        results = RunResults.load(RunFolder(staged / "run"))
        planned = [r for r in results.records if r.origin == "dp"]
        assert 1 <= len(planned) <= 2
        assert {e.trial for e in results.searched()} >= {r.number for r in planned}

    def test_nothing_is_measured_twice_and_nothing_is_missing(self, staged: Path) -> None:
        records = confirmations_of(staged / "run")
        measured = [(r.number, r.training_seed, r.seed) for r in records]
        assert len(set(measured)) == len(measured)
        results = RunResults.load(RunFolder(staged / "run"))
        (preset,) = results.hand_made()
        opponent = results.opponent_of(preset)
        assert opponent is not None
        assert {m for m in measured if m[1] is not None} == {
            (trial, training_seed, seed)
            for trial in (preset.trial, opponent.trial)
            for training_seed, seeds in ((1, (3, 4)), (2, (5, 6)))
            for seed in seeds
        }
        own = {(number, seed) for number, training_seed, seed in measured if not training_seed}
        assert {(e.trial, s) for e in (results.full(), preset) if e for s in (1, 2)} <= own

    def test_presets_are_judged_over_training_seeds(self, staged: Path) -> None:
        results = RunResults.load(RunFolder(staged / "run"))
        (found,) = results.comparisons()
        assert found.searched is not None
        assert found.difference is not None
        assert found.audit is not None
        assert found.num_training_seeds == found.difference.num_seeds == 2
        fids = {(r.number, r.seed): r.fid for r in results.retrained}
        steps = [
            fids[found.searched.trial, seed] - fids[found.preset.trial, seed]
            for seed in (3, 4, 5, 6)
        ]
        assert found.difference.mean == pytest.approx(sum(steps) / 4)
        assert found.audit.mean != found.difference.mean

    def test_every_stage_has_its_cost(self, staged: Path) -> None:
        costs = Costs.load(RunFolder(staged / "run"))
        assert {"profile", "trials", "final latency", "confirmation"} <= set(costs.stages)
        assert costs.of("trials").jobs == 5
        assert costs.of("interrupted").device_seconds > 0  # what ran when the driver was killed
        assert costs.in_flight_seconds == 0
        shown = run_cli("status", staged / "run").out
        assert all(stage in shown for stage in costs.stages)

    def test_a_finished_run_is_only_shown_again(self, staged: Path) -> None:
        before = (staged / "run" / "costs.json").read_bytes()
        done = run_cli("run", staged / "space.yaml", "--output", staged / "run")
        assert done.code == 0, done.err
        assert (staged / "run" / "costs.json").read_bytes() == before


@pytest.mark.slow
def test_trials_of_shared_weights_measure_one_file(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        profile={"num_images": 4},
        warm_start=["full"],
        recipe={"num_steps": 1, "batch_size": 16, "weights": "shared"},
        search={"n_trials": 3, "dp_seeds": 1},
    )
    folder = RunFolder(tmp_path / "run")
    first = run_cli("run", space, "--output", folder.root)
    assert first.code == 0, first.err
    pretrained = locate_weights("package:digits_dit.safetensors").path
    full, *others = records_of(folder.root)
    assert full.label == "full"
    assert same_weights(folder.weights(full.number), pretrained)
    assert all(folder.weights(r.number).samefile(folder.shared_weights) for r in others)
    table = ErrorTable.load(folder.error_table)
    assert (table.exits, table.num_steps) == ("schedules", 1)
    # A lost table is measured again, from the same weights.
    folder.error_table.unlink()
    more = run_cli("run", space, "-o", "search.n_trials=4", "--output", folder.root)
    assert more.code == 0, more.err
    assert ErrorTable.load(folder.error_table).losses == table.losses
    assert all(folder.weights(r.number).samefile(folder.shared_weights) for r in others)
    # Lost weights cannot be made again: other ones do not compare.
    folder.shared_weights.unlink()
    refused = run_cli("run", space, "-o", "search.n_trials=5", "--output", folder.root)
    assert refused.code == 5
    assert "one set of shared weights" in refused.err
    assert len(records_of(folder.root)) == 4
