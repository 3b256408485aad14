"""Trials, confirmations and tables of a run whose fine-tunes start from adapters."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted_jobs import (
    DEPTHS,
    NUM_SAMPLES,
    bench_of,
    folder_of,
    settings_text,
    start_job,
    trial_job,
)
from made_up_starts import start_record
from safetensors.torch import load_file
from trial_jobs import confirm_job, retrain_job

from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import CheckpointError, ConfigError, StorageError
from schedsearch.methods.exits.with_adapters import WithAdapters
from schedsearch.methods.loading import load_method
from schedsearch.planning.error_table import ErrorTable
from schedsearch.runs.starts.files import RECORD, StartFiles
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.confirm import confirm, retrain
from schedsearch.workers.failures import StageError
from schedsearch.workers.jobs import ProfileJob
from schedsearch.workers.profile import run_profile
from schedsearch.workers.start_check import run_start
from schedsearch.workers.starts import (
    exits_of_space,
    finished_network,
    start_network,
    timed_network,
)
from schedsearch.workers.trial import run_trial
from schedsearch.workers.workbench import Workbench

FULL, EARLY = ExitSchedule((10,) * 10), ExitSchedule(DEPTHS)


def decide(tmp_path: Path, *, keeps: bool, **changes: Any) -> Workbench:
    """Fit adapters, and leave a check that keeps or drops them."""
    run_start(start_job(tmp_path, "adapters", **changes))
    bench, folder = bench_of(tmp_path, **changes), folder_of(tmp_path)
    files = StartFiles(folder, bench.settings)
    for start, fid in (("plain", 1.0), ("adapters", 0.5 if keeps else 2.0)):
        path = folder.start_check(start)
        path.mkdir(parents=True, exist_ok=True)
        record = start_record(start, [fid], [fid], made_from=files.made_from)
        record.write(path / RECORD)
    assert files.use_adapters() is keeps
    return bench


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps adapters; only to be copied."""
    root = tmp_path_factory.mktemp("decided")
    decide(root, keeps=True)
    return root


@pytest.fixture
def kept(decided: Path, tmp_path: Path) -> Path:
    shutil.copytree(decided / "run", tmp_path / "run")
    return tmp_path


def test_networks_of_a_run_that_keeps_adapters(kept: Path) -> None:
    bench, folder = bench_of(kept), folder_of(kept)
    net = start_network(bench, folder, EARLY)
    assert isinstance(net, WithAdapters)
    assert net.exits == (7, 8)
    maps = load_file(folder.adapters)
    assert torch.equal(net.adapters["7"], maps["7"])
    assert not isinstance(start_network(bench, folder, FULL), WithAdapters)
    timed = timed_network(bench, folder)
    assert isinstance(timed, WithAdapters)
    assert timed.exits == (6, 7, 8, 9)
    assert not timed.training
    folder.adapters.write_bytes(folder.adapters.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"Cannot read exit adapters .*fitted again"):
        start_network(bench, folder, EARLY)


def test_networks_of_a_run_that_drops_them(tmp_path: Path) -> None:
    bench, folder = decide(tmp_path, keeps=False), folder_of(tmp_path)
    assert not isinstance(start_network(bench, folder, EARLY), WithAdapters)
    assert timed_network(bench, folder) is bench.backbone
    assert isinstance(timed_network(bench, None), WithAdapters)  # nothing is decided there
    run_trial(trial_job(tmp_path))
    assert (folder.trial(7) / "schedule.yaml").is_file()
    assert not any(name.startswith("adapters") for name in load_file(folder.weights(7)))


def test_without_a_check_there_is_no_trial(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        run_trial(trial_job(tmp_path))
    assert isinstance(caught.value.__cause__, StorageError)


def test_a_trial_leaves_a_method_file_that_gives_its_samples_again(kept: Path) -> None:
    record = run_trial(trial_job(kept))
    assert record.evaluation is not None
    bench, folder = bench_of(kept), folder_of(kept)
    assert not (folder.trial(7) / "schedule.yaml").exists()
    weights, maps = load_file(folder.weights(7)), load_file(folder.adapters)
    assert {name for name in weights if "adapters" in name} == {"adapters.7", "adapters.8"}
    assert not torch.equal(weights["adapters.7"], maps["7"])  # trained along
    method = load_method(folder.trial(7) / "method.yaml")
    assert method.file.network == {"adapters": {"exits": [7, 8]}}
    own = finished_network(bench, folder, EARLY, folder.weights(7))
    images = [
        generate(
            net,
            how,
            bench.solver,
            starting_noise(3, 5, (1, 8, 8)),
            balanced_labels(5, 10),
            5,
        )
        for net, how in ((own, EARLY), (method.network(bench.fresh_backbone()), method))
    ]
    assert torch.equal(*images)
    again = bench.measure(own, EARLY, seed=0, num_samples=NUM_SAMPLES)
    assert again.fid == record.evaluation.fid


def test_full_depth_has_no_adapters_and_a_schedule_file(kept: Path) -> None:
    run_trial(trial_job(kept, (10,) * 10))
    folder = folder_of(kept)
    assert (folder.trial(0) / "schedule.yaml").is_file()
    assert not any("adapters" in name for name in load_file(folder.weights(0)))


def test_confirmation_and_retraining_use_the_adapted_network(kept: Path) -> None:
    job = trial_job(kept)
    evaluation = run_trial(job).evaluation
    assert evaluation is not None
    assert confirm(confirm_job(job, 0, NUM_SAMPLES)).fid == evaluation.fid
    (same,) = retrain(retrain_job(job, 0, (0,), NUM_SAMPLES))
    assert same.fid == evaluation.fid
    assert retrain(retrain_job(job, 0, (0,), NUM_SAMPLES)) == (same,)  # from its kept weights
    (other,) = retrain(retrain_job(job, 3, (0,), NUM_SAMPLES))
    assert other.fid != same.fid


def test_the_error_table_is_of_the_adapted_exits(kept: Path, tmp_path: Path) -> None:
    tables = {}
    for start in ("adapters", "plain"):
        changes: dict[str, Any] = {"profile": {"num_images": 8}, "recipe": {"start": start}}
        root = tmp_path / start
        if start == "adapters":
            decide(root, keeps=True, **changes)
        job = ProfileJob(settings=settings_text(root, **changes), run_dir=str(root / "run"))
        table = run_profile(job)
        assert isinstance(table, ErrorTable)
        tables[start] = table
    assert tables["adapters"].exits == "adapters"
    assert tables["plain"].exits == "pretrained"
    adapted_row, plain_row = (tables[start].losses[5] for start in ("adapters", "plain"))
    assert adapted_row[-1] == plain_row[-1]  # full depth
    assert adapted_row[0] < 0.9 * plain_row[0]


def test_a_trainer_that_drops_adapters_is_refused(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.ase.AseTrainer.finetune", lambda _self, net, *_: net.net)
    with pytest.raises(StageError) as caught:
        run_trial(trial_job(kept))
    assert isinstance(caught.value.__cause__, ConfigError)
    assert "needs a trainer that keeps them" in str(caught.value.__cause__)


def test_the_time_embedder_can_be_frozen(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"recipe": {"freeze_time_embedder": True}}
    bench = decide(tmp_path, keeps=True, **changes)
    run_trial(trial_job(tmp_path, **changes))
    weights = load_file(folder_of(tmp_path).weights(7))
    own = bench.pretrained.state_dict()
    changed = {name for name, value in own.items() if not torch.equal(weights[name], value)}
    assert "blocks.0.mlp.fc1.weight" in changed
    assert not any(name.startswith("t_embedder") for name in changed)


class Whole(torch.nn.Module):
    """A backbone that cannot run block by block."""

    num_exit_blocks, in_shape, num_classes = 10, (1, 8, 8), 10


def test_networks_that_cannot_have_adapters(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    with pytest.raises(ConfigError, match=r"but Whole cannot: .*or set recipe\.start to plain"):
        exits_of_space(replace(bench, pretrained=Whole()))
    shallow = bench_of(tmp_path, space={"min_depth": 9})
    assert exits_of_space(shallow) == (9,)
