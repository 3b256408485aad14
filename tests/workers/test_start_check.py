"""Exit adapters and the check of both starts: what a worker leaves, and how it goes on."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted_jobs import DEPTHS, bench_of, folder_of, start_job
from safetensors.torch import load_file

from schedsearch.exceptions import StorageError, TrialError
from schedsearch.methods.plans.maps import adapted
from schedsearch.runs.starts.files import RECORD, StartFiles
from schedsearch.runs.starts.records import AdaptersRecord, StartRecord
from schedsearch.workers import start_check
from schedsearch.workers.jobs import DISK_STAGE, Done, Failed
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.run_job import run_job
from schedsearch.workers.start_check import fitted_adapters, run_start

NAN = {"recipe": {"lr": 1.0e30}}


def test_adapters_come_nearer_to_full_depth_on_other_images(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    maps = fitted_adapters(bench, (6, 8))
    assert {depth: tuple(map_.shape) for depth, map_ in maps.items()} == {
        6: (65, 64),
        8: (65, 64),
    }
    net: Any = bench.backbone
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    t, y = torch.full((4,), 999.0), torch.arange(4)
    with torch.no_grad():
        tokens, before = net.open(x, t, y), {}
        for block in range(10):
            before[block] = tokens.h
            tokens = net.run(tokens, block)
        for depth, map_ in maps.items():
            plain = (before[depth] - tokens.h).square().mean()
            assert (adapted(before[depth], map_) - tokens.h).square().mean() < 0.1 * plain


def test_adapters_do_not_depend_on_how_images_are_cut_into_batches(tmp_path: Path) -> None:
    whole = fitted_adapters(bench_of(tmp_path), (7,), 12)
    small = bench_of(tmp_path, evaluation={"batch_size": 5})
    torch.testing.assert_close(fitted_adapters(small, (7,), 12)[7], whole[7], atol=1e-4, rtol=1e-4)


def test_both_starts_see_the_same_batches_and_images(
    tmp_path: Path, given: list[tuple[Any, ...]]
) -> None:
    found = [run_start(start_job(tmp_path, start)) for start in ("adapters", "plain")]
    assert [record.start for record in found] == ["adapters", "plain"]
    folder = folder_of(tmp_path)
    maps = load_file(folder.adapters)
    assert set(maps) == {"6", "7", "8", "9"}  # all exits of the space
    about = AdaptersRecord.read(folder.adapters_record)
    assert about is not None
    assert (about.exits, about.num_images) == ([6, 7, 8, 9], 96)
    assert about.cpu_seconds > 0
    adapted_start, plain_start = (call[0] for call in given)
    assert set(adapted_start) - set(plain_start) == {"adapters.7", "adapters.8"}
    for name in ("7", "8"):
        assert torch.equal(adapted_start[f"adapters.{name}"], maps[name])
    assert all(torch.equal(adapted_start[name], value) for name, value in plain_start.items())
    (one, two) = (call[2:] for call in given)  # exits, data, process, recipe, progress, seed
    assert one[0].schedule == two[0].schedule
    assert one[5] == two[5] == 0
    for record in found:
        assert len(record.fids) == len(record.audit_fids) == 3
        assert record.fids[0] != record.fids[1]
        assert (record.depths, record.num_steps) == (list(DEPTHS), 2)
        assert record.cpu_seconds > 0
    assert found[0].fids != found[1].fids
    left = {"log.txt", "made_from.txt", RECORD}
    for start in ("plain", "adapters"):
        assert {path.name for path in folder.start_check(start).iterdir()} == left
    assert StartFiles(folder, bench_of(tmp_path).settings).check() is not None


def test_finished_work_is_kept_and_damaged_adapters_are_fitted_again(
    tmp_path: Path, given: list[tuple[Any, ...]]
) -> None:
    job, folder = start_job(tmp_path, "adapters"), folder_of(tmp_path)
    first, content = run_start(job), folder.adapters.read_bytes()
    assert run_start(job) == first
    for damaged in (content[:-9], content[:-9] + b"otherwise", b""):
        folder.adapters.write_bytes(damaged)
        assert run_start(job) == first
        assert folder.adapters.read_bytes() == content
    assert len(given) == 1
    run_start(start_job(tmp_path, "adapters", recipe={"lr": 1.0e-4}))
    assert len(given) == 2


def test_adapters_fitted_again_must_be_those_of_the_trials(tmp_path: Path) -> None:
    job, folder = start_job(tmp_path, "adapters"), folder_of(tmp_path)
    record = run_start(job)
    other = dataclasses.replace(record, adapters_sha256="0")
    other.write(folder.start_check("adapters") / RECORD)
    with pytest.raises(StorageError, match=r"other numbers than .*Restore the file, or name a"):
        run_start(job)


@pytest.mark.parametrize("start", ["plain", "adapters"])
def test_training_goes_on_from_its_saved_state(
    tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_start(start_job(tmp_path / "whole", start))
    save = FileProgress.save

    def stopped(self: FileProgress, step: int, state: Any) -> None:
        save(self, step, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileProgress, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_start(start_job(tmp_path, start))
    record = run_start(start_job(tmp_path, start))
    assert (record.fids, record.audit_fids) == (whole.fids, whole.audit_fids)
    log = (folder_of(tmp_path).start_check(start) / "log.txt").read_text()
    assert "resumed after step 1 of 2" in log


def test_finished_weights_are_not_trained_again(
    tmp_path: Path, given: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("schedsearch.workers.workbench.Workbench.measure", no_room)
        with pytest.raises(KeyboardInterrupt):
            run_start(start_job(tmp_path, "adapters"))
    record = run_start(start_job(tmp_path, "adapters"))
    assert len(given) == 1
    assert record.fids == run_start(start_job(tmp_path / "whole", "adapters")).fids


def test_adapters_that_diverge_are_an_outcome_and_plain_exits_that_do_a_failure(
    tmp_path: Path,
) -> None:
    record = run_start(start_job(tmp_path, "adapters", **NAN))
    assert record.failed is not None
    assert "recipe.lr" in record.failed
    assert not record.fids
    assert "Traceback" in (folder_of(tmp_path).start_check("adapters") / "log.txt").read_text()
    with pytest.raises(TrialError, match=r"recipe\.lr"):
        run_start(start_job(tmp_path, "plain", **NAN))
    assert StartRecord.read(folder_of(tmp_path).start_check("plain") / RECORD) is None


def test_it_is_a_job_like_others(tmp_path: Path, fill_disk: Any) -> None:
    assert run_job(start_job(tmp_path, "plain")) == Done(result=None)
    fill_disk()
    outcome = run_job(start_job(tmp_path, "adapters"))
    assert isinstance(outcome, Failed)
    assert outcome.stage == DISK_STAGE
    assert not folder_of(tmp_path).adapters.exists()


def test_seeds_of_the_check_belong_to_it_alone() -> None:
    from schedsearch.workers.rivals.choices import CALIBRATION_SEED

    assert CALIBRATION_SEED not in start_check.CHECK_SEEDS
    assert len(set(start_check.CHECK_SEEDS)) == 3
