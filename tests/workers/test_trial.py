"""One trial in this process: what it leaves behind."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_runs import same_weights, trainings
from trial_jobs import DEPTHS, job_of

from schedsearch.backbones.weights.checkpoint import load_weights, save_weights
from schedsearch.evaluation.grid import save_grid
from schedsearch.records import Evaluation, TrialRecord
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.schedule_file import read_schedule_file
from schedsearch.workers.failures import StageError
from schedsearch.workers.jobs import TrialJob
from schedsearch.workers.trial import run_trial
from schedsearch.workers.workbench import open_workbench


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "run" / "trials" / "0007"


def evaluation_of(record: TrialRecord) -> Evaluation:
    assert record.evaluation is not None
    return record.evaluation


def test_a_trial_and_what_it_leaves(tmp_path: Path) -> None:
    record = run_trial(job_of(tmp_path, label="mine", origin="dp"))
    evaluation = evaluation_of(record)
    assert (record.number, record.depths) == (7, DEPTHS)
    assert (record.label, record.origin) == ("mine", "dp")
    assert (evaluation.latency_ms, evaluation.latency_source) == (12.5, "predicted")
    assert (evaluation.num_samples, evaluation.nfe) == (64, 3)
    assert evaluation.features == "digits CNN"
    assert evaluation.nn_distance is not None
    assert evaluation.nn_distance > 0.5
    assert evaluation.near_copies is not None
    assert 0 <= evaluation.near_copies <= 1
    assert evaluation.reference_std == pytest.approx(0.752, abs=0.001)
    assert set(record.stage_seconds) == {"load", "fine-tune", "sample", "save"}
    assert sum(record.stage_seconds.values()) <= record.seconds + 0.01
    assert record.training_seconds > 0
    assert record.worker.endswith(f":{os.getpid()}")
    assert record.device == "cpu"
    assert record.versions["torch"] == torch.__version__.partition("+")[0]
    folder = folder_of(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "record.json",
        "schedule.yaml",
        "samples.png",
        "log.txt",
        "ema.safetensors",
    }
    (line,) = (folder / "record.json").read_text().splitlines()
    assert TrialRecord.from_json(line) == record
    file = read_schedule_file(folder / "schedule.yaml")
    assert (file.name, file.depths, file.weights) == ("mine", DEPTHS, "ema.safetensors")
    log = (folder / "log.txt").read_text()
    assert log.startswith("schedule: 9 9 9 8 8 8 7 7 7 6\nstep=1 loss=")
    assert record.final_loss == pytest.approx(float(log.split("loss=")[2].split()[0]), abs=1e-6)


def test_the_picture_shows_samples_of_the_kept_weights(tmp_path: Path) -> None:
    job, folder = job_of(tmp_path), RunFolder(tmp_path / "run")
    run_trial(job)
    bench = open_workbench(job.settings, str(folder.reference))
    net: Any = bench.fresh_backbone()
    load_weights(net, folder.weights(7))
    settings = bench.settings.evaluation
    quality = bench.measure(
        net, job.schedule, seed=settings.seed, num_samples=settings.num_samples
    )
    save_grid(quality.samples, tmp_path / "expected.png")
    expected = (tmp_path / "expected.png").read_bytes()
    assert (folder_of(tmp_path) / "samples.png").read_bytes() == expected


def test_the_same_job_gives_the_same_numbers_and_others_their_own(tmp_path: Path) -> None:
    first, again = run_trial(job_of(tmp_path)), run_trial(job_of(tmp_path))
    assert first.evaluation == again.evaluation
    assert first.final_loss == again.final_loss
    other = run_trial(job_of(tmp_path, schedule=ExitSchedule((9,) * 10)))
    assert evaluation_of(other).fid != evaluation_of(first).fid
    assert evaluation_of(other).protocol == evaluation_of(first).protocol


def test_a_worker_with_its_own_device_measures_latency(tmp_path: Path) -> None:
    record = run_trial(job_of(tmp_path, measure_latency=True))
    evaluation = evaluation_of(record)
    assert evaluation.latency_source == "measured"
    assert evaluation.latency_ms != 12.5
    # Nine and more samplings of a batch passed in that stage, full depth's among them.
    assert 0 < evaluation.latency_ms < 1000 * record.stage_seconds["latency"] / 3


def test_another_kind_of_device_measures_no_latency(tmp_path: Path) -> None:
    record = run_trial(job_of(tmp_path, measure_latency=True, latency_device="another GPU"))
    evaluation = evaluation_of(record)
    assert (evaluation.latency_source, evaluation.latency_ms) == ("predicted", 12.5)
    assert "latency" not in record.stage_seconds


def test_an_interrupted_trial_goes_on_under_its_new_number(tmp_path: Path) -> None:
    whole = run_trial(job_of(tmp_path / "whole"))
    killed = job_of(tmp_path, "stopped_after_step_1")
    with pytest.raises(KeyboardInterrupt):
        run_trial(killed)
    assert (folder_of(tmp_path) / "progress.pt").is_file()
    resumed = run_trial(job_of(tmp_path, number=8, resume_from=7))
    assert evaluation_of(resumed) == evaluation_of(whole)
    log = (tmp_path / "run" / "trials" / "0008" / "log.txt").read_text()
    assert "resumed after step 1 of 2" in log
    assert not list((tmp_path / "run").rglob("progress.pt"))


def test_finished_weights_are_not_tuned_again(tmp_path: Path) -> None:
    """The worker died while it sampled: the fine-tune is kept, its state is not needed."""
    whole = run_trial(job_of(tmp_path))
    resumed = run_trial(job_of(tmp_path, number=8, resume_from=7))
    assert evaluation_of(resumed) == evaluation_of(whole)
    assert resumed.final_loss == whole.final_loss
    assert len(trainings(tmp_path)) == 1
    other = run_trial(job_of(tmp_path, number=9, resume_from=8, schedule=ExitSchedule((9,) * 10)))
    assert len(trainings(tmp_path)) == 2, "weights of another schedule are not used"
    assert evaluation_of(other).fid != evaluation_of(whole).fid


def test_a_state_of_another_schedule_is_not_continued(tmp_path: Path) -> None:
    expected = run_trial(job_of(tmp_path / "whole", schedule=ExitSchedule((9,) * 10)))
    with pytest.raises(KeyboardInterrupt):
        run_trial(job_of(tmp_path, "stopped_after_step_1"))
    record = run_trial(job_of(tmp_path, number=8, resume_from=7, schedule=ExitSchedule((9,) * 10)))
    assert evaluation_of(record) == evaluation_of(expected)
    folder = tmp_path / "run" / "trials" / "0008"
    assert "belongs to another fine-tune" in (folder / "log.txt").read_text()
    assert (folder / "progress.corrupt").exists()


def test_less_memory_gives_the_same_numbers_and_is_marked(tmp_path: Path) -> None:
    whole = run_trial(job_of(tmp_path / "whole"))
    halved = run_trial(job_of(tmp_path, accumulate=2))
    assert (whole.accumulate, halved.accumulate) == (None, 2)
    assert evaluation_of(halved).fid == pytest.approx(evaluation_of(whole).fid, rel=1e-3)


# ---- shared weights ---------------------------------------------------------------------------


def shared_job(tmp_path: Path, **changes: Any) -> TrialJob:
    """A trial of a run whose schedules share weights, which lie there already."""
    job = job_of(tmp_path, **changes)
    data = yaml.safe_load(job.settings)
    data["recipe"]["weights"] = "shared"
    job = job_of(tmp_path, **{**changes, "settings": yaml.safe_dump(data)})
    folder = RunFolder(tmp_path / "run")
    if not folder.shared_weights.exists():
        net: Any = open_workbench(job.settings, str(folder.reference)).fresh_backbone()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.01)
        save_weights(net, folder.shared_weights)
    return job


def test_a_trial_of_shared_weights_measures_them_as_they_are(tmp_path: Path) -> None:
    job, folder = shared_job(tmp_path), RunFolder(tmp_path / "run")
    record = run_trial(job)
    assert trainings(tmp_path) == []
    assert record.final_loss is None
    assert folder.weights(7).samefile(folder.shared_weights)  # one file, whatever the front
    bench = open_workbench(job.settings, str(folder.reference))
    net = bench.backbone_with(folder.shared_weights)
    expected = bench.measure(net, job.schedule, seed=0, num_samples=64)
    assert evaluation_of(record).fid == expected.fid


def test_full_depth_keeps_the_pretrained_weights_in_a_shared_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    job = shared_job(tmp_path, schedule=ExitSchedule.flat(10))
    run_trial(job)
    bench = open_workbench(job.settings, str(folder.reference))
    kept = load_file(folder.weights(7))
    pretrained = bench.pretrained.state_dict()
    assert kept.keys() == pretrained.keys()
    assert all(value.equal(pretrained[name]) for name, value in kept.items())
    assert not same_weights(folder.weights(7), folder.shared_weights)


def test_shared_weights_that_are_gone_are_named(tmp_path: Path) -> None:
    job = shared_job(tmp_path)
    RunFolder(tmp_path / "run").shared_weights.unlink()
    with pytest.raises(StageError, match="fine-tune") as caught:
        run_trial(job)
    assert "shared.safetensors" in str(caught.value.__cause__)
