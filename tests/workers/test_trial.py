"""One job in this process: what it leaves behind, and how it fails."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_runs import trainings
from trial_jobs import DEPTHS, job_of

from schedsearch.backbones.weights.checkpoint import load_weights, save_weights
from schedsearch.evaluation.grid import save_grid
from schedsearch.exceptions import ConfigError
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.schedule_file import read_schedule_file
from schedsearch.settings import RecipeSettings
from schedsearch.workers.confirm import continued
from schedsearch.workers.failures import DISK_STAGE
from schedsearch.workers.jobs import ConfirmJob, PromoteJob, TrialJob
from schedsearch.workers.loading import load_class, load_trainer
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.run_job import run_job
from schedsearch.workers.trial import run_trial
from schedsearch.workers.workbench import open_workbench


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "run" / "trials" / "0007"


def test_a_trial_and_what_it_leaves(tmp_path: Path) -> None:
    record = TrialRecord.from_json(run_job(job_of(tmp_path, label="mine"))["record"])
    evaluation = record.evaluation
    assert evaluation is not None
    assert (record.number, record.depths, record.label) == (7, DEPTHS, "mine")
    assert (evaluation.latency_ms, evaluation.latency_source) == (12.5, "predicted")
    assert (evaluation.num_samples, evaluation.nfe) == (64, 3)
    assert evaluation.features == "digits CNN"
    assert set(record.stage_seconds) == {"load", "fine-tune", "sample", "save"}
    assert sum(record.stage_seconds.values()) <= record.seconds + 0.01
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
    assert TrialRecord.from_json((folder / "record.json").read_text()) == record
    file = read_schedule_file(folder / "schedule.yaml")
    assert (file.name, file.depths, file.weights) == ("mine", DEPTHS, "ema.safetensors")
    log = (folder / "log.txt").read_text()
    assert log.startswith("schedule: 9 9 9 8 8 8 7 7 7 6\nstep=1 loss=")
    assert record.final_loss == pytest.approx(float(log.split("loss=")[2].split()[0]), abs=1e-6)


def test_the_picture_shows_samples_of_the_kept_weights(tmp_path: Path) -> None:
    job, folder = job_of(tmp_path), RunFolder(tmp_path / "run")
    assert run_trial(job).complete
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
    other = run_trial(job_of(tmp_path, depths=(9,) * 10))
    assert other.evaluation is not None
    assert first.evaluation is not None
    assert other.evaluation.fid != first.evaluation.fid
    assert other.evaluation.protocol == first.evaluation.protocol


def test_a_worker_with_its_own_device_measures_latency(tmp_path: Path) -> None:
    record = run_trial(job_of(tmp_path, measure_latency=True))
    assert record.evaluation is not None
    assert record.evaluation.latency_source == "measured"
    assert record.evaluation.latency_ms != 12.5
    # Nine and more samplings of a batch passed in that stage, full depth's among them.
    assert 0 < record.evaluation.latency_ms < 1000 * record.stage_seconds["latency"] / 3


@pytest.mark.parametrize(
    ("fault", "stage", "reason", "retry"),
    [
        ("raises", "fine-tune", "RuntimeError: the trainer broke", False),
        ("nan_loss", "fine-tune", "at step 1 of 2", False),
        ("nan_model", "sample", "64 of 64 samples are not finite", False),
        ("out_of_memory_once", "fine-tune", "MemoryError: no room", True),
        ("disk_full", DISK_STAGE, "No space left on device", False),
    ],
)
def test_failures_are_records(
    tmp_path: Path, fault: str, stage: str, reason: str, retry: bool
) -> None:
    record = run_trial(job_of(tmp_path, fault))
    assert not record.complete
    assert (record.stage, record.retry) == (stage, retry)
    assert record.reason is not None
    assert reason in record.reason
    assert "\n" not in record.reason
    assert not (folder_of(tmp_path) / "record.json").exists()
    assert "Traceback" in (folder_of(tmp_path) / "log.txt").read_text()


def test_what_cannot_be_loaded_fails_in_load(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    record = run_trial(TrialJob(**{**_fields(job), "settings": "name: [broken"}))
    assert record.stage == "load"
    assert record.reason is not None
    assert "space.yaml:1:14: expected" in record.reason
    data = yaml.safe_load(job.settings)
    data["backbone"]["checkpoint"] = str(tmp_path / "missing.safetensors")
    record = run_trial(TrialJob(**{**_fields(job), "settings": yaml.safe_dump(data)}))
    assert record.stage == "load"
    assert record.reason is not None
    assert "missing.safetensors" in record.reason


def _fields(job: TrialJob) -> dict[str, Any]:
    data = {key: value for key, value in job.to_dict().items() if key != "kind"}
    return {**data, "depths": tuple(data["depths"])}


def test_a_disk_that_fills_while_torch_saves_is_seen_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch answers with a RuntimeError of its own, and the system's error behind it."""

    def save(state: object, handle: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:671]")  # noqa: B904

    monkeypatch.setattr(torch, "save", save)
    record = run_trial(job_of(tmp_path))
    assert (record.complete, record.stage) == (False, DISK_STAGE)
    assert "inline_container" in str(record.reason)


def test_torch_hides_the_error_where_the_worker_looks(tmp_path: Path) -> None:
    """The limit on the size of files stands in for a full disk; in a process of its own."""
    import resource

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        progress = FileProgress(tmp_path, save_every=1)
        try:
            progress.save(1, lambda: {"weights": torch.zeros(10_000)})
        except RuntimeError as error:
            os._exit(3 if isinstance(error.__context__, OSError) else 1)
        except OSError:
            os._exit(3)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert list(tmp_path.iterdir()) == []


def test_confirmation_of_kept_weights(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    record = run_trial(job)
    assert record.evaluation is not None

    def confirm(seed: int, number: int = 7) -> dict[str, str]:
        return run_job(
            ConfirmJob(
                number=number,
                depths=DEPTHS,
                label=None,
                settings=job.settings,
                run_dir=job.run_dir,
                seed=seed,
                num_samples=64,
            )
        )

    same = ConfirmRecord.from_json(confirm(0)["record"])
    assert (same.fid, same.kid) == (record.evaluation.fid, record.evaluation.kid)
    fresh = ConfirmRecord.from_json(confirm(1)["record"])
    assert (fresh.number, fresh.seed, fresh.num_samples) == (7, 1, 64)
    assert fresh.fid != same.fid
    lost = confirm(1, number=8)
    assert set(lost) == {"error", "stage"}
    assert "0008" in lost["error"]
    assert lost["stage"] == "confirm"


def test_trials_start_from_shared_weights_where_the_profile_says_so(tmp_path: Path) -> None:
    """Without a step of its own a trial is what it started from."""
    job = job_of(tmp_path)
    data = yaml.safe_load(job.settings)
    data["recipe"]["num_steps"] = 0
    folder = RunFolder(tmp_path / "run")
    kept = {}
    for start in ("pretrained", "shared"):
        data["profile"] = {"num_steps": 1, "start": start}
        settings = yaml.safe_dump(data)
        bench = open_workbench(settings, str(folder.reference))
        changed: Any = bench.fresh_backbone()
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.mul_(1.01)
        save_weights(changed, folder.shared_weights("schedules"))
        record = run_trial(TrialJob(**{**_fields(job), "settings": settings}))
        assert record.complete, record.reason
        kept[start] = load_file(folder.weights(7))
    shared = load_file(folder.shared_weights("schedules"))
    assert all(kept["shared"][name].equal(shared[name]) for name in shared)
    assert not all(kept["pretrained"][name].equal(shared[name]) for name in shared)
    folder.shared_weights("schedules").unlink()
    lost = run_trial(TrialJob(**{**_fields(job), "settings": settings}))
    assert lost.stage == "fine-tune"
    assert lost.reason is not None
    assert "does not exist" in lost.reason


def test_a_promotion_continues_the_trial_and_is_done_once(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert run_trial(job).complete
    folder = RunFolder(tmp_path / "run")
    own = folder.weights(7).read_bytes()
    promote = PromoteJob(
        number=7,
        depths=DEPTHS,
        label=None,
        settings=job.settings,
        run_dir=job.run_dir,
        num_steps=2,
    )
    assert set(run_job(promote)) == {"record"}
    promoted = folder.promoted(7).read_bytes()
    assert promoted != own == folder.weights(7).read_bytes()
    began = len(trainings(tmp_path))
    assert set(run_job(promote)) == {"record"}
    assert len(trainings(tmp_path)) == began
    assert folder.promoted(7).read_bytes() == promoted
    gone = replace(promote, number=8)
    assert "0008" in run_job(gone)["error"]


def test_a_continued_fine_tune_has_no_lambda() -> None:
    recipe = RecipeSettings(num_steps=5, batch_size=4, lr=1e-3)
    again = continued(recipe, 9)
    assert recipe.lambda_weighting.kind == "linear"
    assert (again.num_steps, again.lambda_weighting.kind) == (9, "none")
    assert (again.batch_size, again.lr) == (recipe.batch_size, recipe.lr)


def test_record_json_is_one_line(tmp_path: Path) -> None:
    run_trial(job_of(tmp_path))
    (line,) = (folder_of(tmp_path) / "record.json").read_text().splitlines()
    assert json.loads(line)["number"] == 7


# ---- loading ----------------------------------------------------------------------------------


def test_trainers_by_import_string() -> None:
    assert type(load_trainer("trainers.ase:AseTrainer")).__name__ == "AseTrainer"
    assert load_class("yaml:safe_load", "x") is yaml.safe_load


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no.such.module:Trainer", "must be importable as package.module:Class"),
        ("trainers.ase:AseTrainr", "has no 'AseTrainr'"),
        ("driving:Driver", "must be created without arguments, but that failed with TypeError"),
        ("broken_module:Trainer", "failed with ZeroDivisionError: division by zero"),
        ("fractions:Fraction", "must have a method finetune"),
    ],
)
def test_what_is_no_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_trainer(target)
