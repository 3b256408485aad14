"""The preflight looks into the data, and says what it will skip."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from driving import settings_of
from PIL import Image
from tiny_runs import write_space
from torch import Tensor

from schedsearch.config import read_settings, settings_from_text
from schedsearch.exceptions import ConfigError
from schedsearch.runs.folder import RunFolder
from schedsearch.search.preflight import Preflight, check_before_start
from schedsearch.settings import StudySettings
from schedsearch.workers.workbench import build_workbench


def test_local_workers_never_share_a_gpu_on_which_they_measure_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    resources = {"backend": "local", "num_workers": 2, "gpus_per_trial": 1}
    settings = read_settings(write_space(tmp_path, resources=resources))
    with pytest.raises(ConfigError, match="2 workers need 2 GPUs, but torch finds 1"):
        check_before_start(settings, RunFolder(tmp_path / "run"))


def test_workers_get_no_password() -> None:
    settings = settings_of(search={"storage": "postgresql://bob:secret@host/runs"})
    text = Preflight.settings_text.func(SimpleNamespace(settings=settings))  # type: ignore[attr-defined]
    assert "secret" not in text
    assert settings_from_text(text) == settings_of()


class Rows:
    """Features of 8x8 grey images: the means of their rows."""

    name, dim, sha256 = "rows", 8, "0" * 64

    def __init__(self, features_path: str | None, device: object) -> None:
        pass

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 3))


def settings_for(folder: Path, max_damaged: int, **keys: str) -> StudySettings:
    rng = np.random.default_rng(0)
    for label in range(10):
        (folder / "images" / str(label)).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / str(label) / f"{index}.png")
    (folder / "images" / "7" / "5.png").write_bytes(b"")
    data = {"source": "image_folder", "path": "images", "max_damaged": max_damaged, **keys}
    return read_settings(
        write_space(folder, data=data, evaluation={"features": f"{__name__}:Rows"})
    )


def test_skipped_images_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(tmp_path, max_damaged=1)
    with caplog.at_level(logging.WARNING):
        ready = check_before_start(settings, RunFolder(tmp_path / "run"), dry_run=True)
    notes = [r for r in caplog.records if r.name == "schedsearch.search.preflight"]
    assert len(notes) == 1
    assert "1 of 60 images cannot be read" in notes[0].getMessage()
    assert "7/5.png" in notes[0].getMessage()
    assert not (tmp_path / "run").exists()  # a dry run leaves nothing
    assert ready.bench.reference.num_images == 59


def test_too_much_damage_ends_before_the_reference_is_computed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_damaged=0)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with pytest.raises(ConfigError, match=r"7/5\.png"):
        check_before_start(settings, folder)
    assert not any(folder.reference.glob("*"))


def test_labels_that_do_not_fit_end_before_the_reference_is_computed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_damaged=1)
    (tmp_path / "images" / "more").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "more" / "0.png")
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with pytest.raises(ConfigError, match="11 classes"):
        check_before_start(settings, folder)
    assert not any(folder.reference.glob("*"))


def test_fid_compares_with_a_reference_apart_and_near_copies_with_training(
    tmp_path: Path,
) -> None:
    (tmp_path / "new").mkdir()
    rng = np.random.default_rng(1)
    for index in range(20):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "new" / f"{index}.png")
    settings = settings_for(tmp_path, max_damaged=1, reference_path="new")
    folder = RunFolder(tmp_path / "run")
    bench = check_before_start(settings, folder).bench
    assert bench.reference.num_images == 20
    assert bench.neighbours is not None
    assert len(bench.neighbours.images) == 59
    images = torch.cat(list(bench.source.uint8_batches(16)))
    assert bench.neighbours.compare(images).near_copies == 1.0
    kinds = sorted(file.name.partition("-")[0] for file in folder.reference.iterdir())
    assert kinds == ["neighbours", "reference"]
    plain = replace(settings, data=replace(settings.data, reference_path=None))
    other = build_workbench(plain, folder.reference)
    asked = {"seed": 0, "num_samples": 8}
    assert other.protocol(**asked) != bench.protocol(**asked)


def test_a_damaged_reference_apart_ends_before_it_is_computed(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "new" / "0.png")
    for name in ("1", "2"):
        (tmp_path / "new" / f"{name}.png").write_bytes(b"")
    settings = settings_for(tmp_path, max_damaged=1, reference_path="new")
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with pytest.raises(ConfigError, match=r"new/1\.png"):
        check_before_start(settings, folder)
    assert not any(folder.reference.glob("*"))


class NotFinite(Rows):
    sha256 = "1" * 64

    def __call__(self, images: Tensor) -> Tensor:
        return super().__call__(images) / 0


class OtherSize(Rows):
    dim, sha256 = 9, "1" * 64


class Fails(Rows):
    sha256 = "1" * 64

    def __call__(self, images: Tensor) -> Tensor:
        raise RuntimeError("wrong kernel")


class FailsAtOnce(Rows):
    def __init__(self, features_path: str | None, device: object) -> None:
        raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("extractor", "said"),
    [
        (NotFinite, r"must give 8 finite numbers .*\(8, 8\), 64 of them not finite"),
        (OtherSize, r"must give 9 finite numbers per image, but gives the shape \(8, 8\)"),
        (Fails, "rows fails on images of the shape .*RuntimeError: wrong kernel"),
        (FailsAtOnce, "Cannot create the feature extractor .*RuntimeError: no licence"),
    ],
)
def test_the_dry_run_tries_the_extractor(tmp_path: Path, extractor: type, said: str) -> None:
    settings = settings_for(tmp_path, max_damaged=1)
    name = f"{__name__}:{extractor.__name__}"
    for key in ("features", "auditor"):
        changed = replace(settings, evaluation=replace(settings.evaluation, **{key: name}))
        with pytest.raises(ConfigError, match=said):
            check_before_start(changed, RunFolder(tmp_path / "run"), dry_run=True)


def test_one_reference_image_is_named_by_its_own_key(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "new" / "0.png")
    settings = settings_for(tmp_path, max_damaged=1, reference_path="new")
    with pytest.raises(ConfigError, match=r"data\.reference_path .*new gives 1\."):
        check_before_start(settings, RunFolder(tmp_path / "run"), dry_run=True)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("recipe", "batch_size"),
        ("evaluation", "num_samples"),
        ("evaluation", "confirm_samples"),
        ("evaluation", "latency_batch"),
    ],
)
def test_a_number_beyond_all_memory_is_named_in_the_dry_run(
    tmp_path: Path, section: str, key: str
) -> None:
    settings = read_settings(write_space(tmp_path), [f"{section}.{key}={10**14}"])
    with pytest.raises(ConfigError, match=rf"{section}\.{key} {10**14} takes at least .* GB"):
        check_before_start(settings, RunFolder(tmp_path / "run"), dry_run=True)


def test_the_dry_run_refuses_one_image_and_warns_of_fewer_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(tmp_path, max_damaged=1)
    shutil.rmtree(tmp_path / "images" / "9")
    check_before_start(settings, RunFolder(tmp_path / "run"), dry_run=True)
    assert "9 classes (0, 1, 2, ...), but the network 10" in caplog.text
    for label in range(1, 9):
        shutil.rmtree(tmp_path / "images" / str(label))
    for index in range(1, 6):
        (tmp_path / "images" / "0" / f"{index}.png").unlink()
    with pytest.raises(ConfigError, match=r"at least 2 real images.*images gives 1"):
        check_before_start(settings, RunFolder(tmp_path / "run"), dry_run=True)
