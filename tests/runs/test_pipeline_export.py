"""A trial as a diffusers pipeline: what it samples, what it says, and what is refused."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from diffusers import DiTPipeline
from safetensors.torch import load_file, save_file
from tiny_runs import only_once, run_cli, write_space
from torch import Tensor

import schedsearch
from schedsearch.apply.guided_channels import guide_channels
from schedsearch.backbones.weights.diffusers_dit import patch_time_embedding
from schedsearch.data.pixels import to_uint8
from schedsearch.data.vae import LatentDecoder
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.evaluation.sampling import balanced_labels, starting_noise
from schedsearch.exceptions import ConfigError, NoResultError, ScheduleError, StorageError
from schedsearch.formatting import rounded
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.pipeline_export import export_pipeline
from schedsearch.runs.results import RunResults
from tests.backbones.small_models import make_dit

CONFIG: dict[str, Any] = {
    "input_size": 4,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 1000,
    "learn_sigma": True,
}
STEPS, SCALE = 7, 1.5
TOLERANCE = 1e-4
"""Relative difference of samples; :func:`export_pipeline` states it."""


class Pixels:
    """Features: the mean of each quarter of each channel."""

    name, dim, sha256 = "pixels", 12, hashlib.sha256(b"pixels").hexdigest()

    def __init__(self, features_path: str | None, device: torch.device) -> None:
        pass

    def __call__(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), 4).flatten(1)


@pytest.fixture(scope="module")
def latent_run(shared_folder: Path, vae_folder: Path) -> Path:
    """A finished run of a tiny DiT on latents; only to be read."""
    with only_once(shared_folder, "latent_run") as (folder, is_new):
        if is_new:
            folder.mkdir()
            (folder / "pipeline").mkdir()
            names = {str(label): f"class {label}" for label in range(1000)}
            (folder / "pipeline" / "model_index.json").write_text(json.dumps({"id2label": names}))
            shutil.copytree(vae_folder, folder / "pipeline" / "vae")
            config = folder / "pipeline" / "vae" / "config.json"
            machine = {"_name_or_path": str(folder / "vae")}
            config.write_text(json.dumps({**json.loads(config.read_text()), **machine}))
            save_file(make_dit(**CONFIG).state_dict(), folder / "dit.safetensors")
            latents = {"latents": torch.randn(24, 4, 4, 4), "labels": torch.arange(24)}
            save_file(latents, folder / "latents.safetensors")
            space = write_space(
                folder,
                backbone={"config": CONFIG, "checkpoint": "dit.safetensors"},
                data={"source": "latents", "path": "latents.safetensors", "vae": "pipeline/vae"},
                space={"min_depth": 1, "max_depth": 4},
                warm_start=["full", "D7-DiT"],
                recipe={"num_steps": 1, "batch_size": 8},
                solver={
                    "name": "ddim", "num_steps": STEPS, "cfg_scale": SCALE, "cfg_channels": 3
                },
                evaluation={
                    "num_samples": 16, "features": "test_pipeline_export:Pixels",
                    "latency_repeats": 3, "latency_batch": 2, "confirm_seeds": 2,
                },
                search={"n_trials": 3},
            )  # fmt: skip
            done = run_cli("run", space, "--output", folder / "run")
            assert done.code == 0, done.err
        return folder / "run"


@pytest.fixture
def edited(latent_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the run whose space has other values."""

    def edit(**sections: Any) -> Path:
        copy = Path(shutil.copytree(latent_run, tmp_path / "run"))
        data = yaml.safe_load((copy / "space.yaml").read_text())
        for name, values in sections.items():
            data[name] = {**data[name], **values} if isinstance(values, dict) else values
        (copy / "space.yaml").write_text(yaml.safe_dump(data))
        return copy

    return edit


def searched_trial(run: Path) -> int:
    """A trial that skips blocks."""
    return RunResults.load(RunFolder(run)).hand_made()[0].trial


def images_of(run: Path, trial: int, num: int) -> Tensor:
    """The run's images, decoded to [0, 1], by the tool itself."""
    folder = RunFolder(run)
    settings = RunResults.load(folder).settings
    net = schedsearch.load_backbone(
        {**dataclasses.asdict(settings.backbone), "checkpoint": str(folder.weights(trial))}
    )
    solver = dataclasses.asdict(settings.solver)
    latents = schedsearch.sample(
        net,
        schedsearch.load_schedule(folder.trial(trial) / "schedule.yaml"),
        solver=solver.pop("name"),
        num=num,
        seed=settings.evaluation.seed,
        **{key: value for key, value in solver.items() if value is not None},
    )
    decode = LatentDecoder.load(Path(str(settings.data.vae)))
    return (decode(latents) / 2 + 0.5).clamp(0, 1)


def pipeline_images(pipe: Any, num: int, **arguments: Any) -> Tensor:
    """The pipeline's images from the noise of the run's seed 0."""
    noise = starting_noise(0, num, (4, 4, 4))
    labels = balanced_labels(num, 1000)
    assert labels is not None
    where = "diffusers.pipelines.dit.pipeline_dit.randn_tensor"
    with mock.patch(where, return_value=noise):
        found: Tensor = pipe(labels.tolist(), output_type="pt", **arguments).images
    return found


def loaded(folder: Path) -> Any:
    pipe = DiTPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / (expected - expected.mean()).norm())


def test_the_loaded_pipeline_repeats_the_run_s_samples(latent_run: Path, tmp_path: Path) -> None:
    trial, folder = searched_trial(latent_run), tmp_path / "pipeline"
    export_pipeline(latent_run, trial, folder)
    expected = images_of(latent_run, trial, 6)
    # Follow the card, but with the noise of the run.
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    *setup, call = code.replace("THIS FOLDER", str(folder)).strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(setup), names)
    pipe = names["pipe"]
    assert f"guidance_scale={SCALE}, num_inference_steps={STEPS})" in call
    arguments = {"guidance_scale": SCALE, "num_inference_steps": STEPS}
    found = pipeline_images(pipe, 6, **arguments)
    assert relative_error(found, expected) < TOLERANCE
    summary = schedsearch.summary(pipe)
    assert sum(summary.calls.values()) == STEPS
    assert pipe.labels["class 7"] == 7
    # Without one of the three steps the images are others.
    schedsearch.disable(pipe)
    assert relative_error(pipeline_images(pipe, 6, **arguments), expected) > 0.01
    unguided = loaded(folder)
    patch_time_embedding(unguided.transformer)
    schedsearch.enable(unguided, folder / "schedule.yaml")
    assert relative_error(pipeline_images(unguided, 6, **arguments), expected) > 0.01
    unpatched = loaded(folder)
    schedsearch.enable(unpatched, folder / "schedule.yaml")
    assert relative_error(pipeline_images(unpatched, 6, **arguments), expected) > 0.01


def test_the_pipeline_has_the_fid_that_the_run_measured(latent_run: Path, tmp_path: Path) -> None:
    trial = searched_trial(latent_run)
    export_pipeline(latent_run, trial, tmp_path)
    pipe = loaded(tmp_path)
    patch_time_embedding(pipe.transformer)
    guide_channels(pipe.transformer, 3)
    schedsearch.enable(pipe, tmp_path / "schedule.yaml")
    found = pipeline_images(pipe, 16, guidance_scale=SCALE, num_inference_steps=STEPS)
    latents = load_file(latent_run.parent / "latents.safetensors")["latents"]
    real = LatentDecoder.load(tmp_path / "vae")(latents)
    ours, theirs = (
        feature_statistics(Pixels(None, torch.device("cpu"))(to_uint8(images)))
        for images in (found * 2 - 1, real)
    )
    entry = RunResults.load(RunFolder(latent_run)).require_entry(trial)
    assert frechet_distance(ours, theirs) == pytest.approx(entry.fid, rel=1e-3)


def test_the_folder_says_what_was_measured_and_names_no_path(
    latent_run: Path, tmp_path: Path
) -> None:
    trial, folder = searched_trial(latent_run), tmp_path / "pipeline"
    export_pipeline(str(latent_run), trial, folder)
    results = RunResults.load(RunFolder(latent_run))
    entry, full = results.require_entry(trial), results.full()
    assert full is not None
    card = (folder / "README.md").read_text()
    assert f"| FID (pixels, n=16) | {rounded(entry.fid)} | {rounded(full.fid)} |" in card
    assert "mean FID of 2 held-out seeds, n=16, 95 % interval" in card
    assert "* this schedule - full depth: " in card
    assert f"| latency, ms per batch of 2 | {rounded(entry.latency_ms)} (measured) |" in card
    for row in ("solver | ddim", f"num_steps | {STEPS}", "cfg_channels | 3", "seed | 0"):
        assert f"| {row} |" in card
    for key in ("device", "batch", "fine_tune", "fid_protocol", "vae_sha256", "space_sha256"):
        assert f"\n| {key} | " in card
    schedule = yaml.safe_load((folder / "schedule.yaml").read_text())
    assert schedule["backbone"]["fingerprint"] in card
    assert schedule["depths"] == list(entry.depths)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert str(latent_run.parent).encode() not in path.read_bytes(), path
    assert {path.relative_to(folder).as_posix() for path in files} == {
        "README.md", "model_index.json", "schedule.yaml", "scheduler/scheduler_config.json",
        "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_full_depth_is_exported_too(latent_run: Path, tmp_path: Path) -> None:
    full = RunResults.load(RunFolder(latent_run)).full()
    assert full is not None
    export_pipeline(latent_run, full.trial, tmp_path)  # an empty folder
    pipe = loaded(tmp_path)
    other = tmp_path.parent / f"{tmp_path.name}-other"
    export_pipeline(latent_run, searched_trial(latent_run), other)
    with pytest.raises(ScheduleError, match="was measured with the weights"):
        schedsearch.enable(pipe, other / "schedule.yaml")
    assert "this schedule" not in (tmp_path / "README.md").read_text()


FLOW = {"process": "flow", "time": "sit", "betas": None, "prediction": None}
UVIT = {"img_size": 4, "patch_size": 2, "in_chans": 4, "embed_dim": 32, "depth": 8, "num_heads": 2}
PIXELS = {**CONFIG, "in_channels": 1, "input_size": 8, "num_classes": 10}
EULER: dict[str, Any] = {"name": "flow_euler"}
UNGUIDED: dict[str, Any] = {"cfg_scale": 1.0}
MSE = {"loss": "mse", "label_dropout": 0.0}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"backbone": {"config": {**CONFIG, "num_classes": 10}}}, "the backbone has 10"),
        (
            {"backbone": {"config": {**CONFIG, "class_dropout_prob": 0.0}}, "solver": UNGUIDED},
            "no label for",
        ),
        (
            {
                "backbone": {"family": "uvit", "config": {**UVIT, "num_classes": 1000}},
                "recipe": MSE,
                "solver": UNGUIDED,
            },
            "the backbone is uvit",
        ),
        (
            {
                "backbone": {"family": "sit", "config": {**CONFIG, "learn_sigma": False}},
                "diffusion": FLOW,
                "solver": EULER,
                "warm_start": ["full"],
            },
            "the backbone is sit",
        ),
        (
            {"diffusion": FLOW, "solver": EULER, "recipe": MSE, "warm_start": ["full"]},
            "its process is flow, not ddpm. Search with ddim",
        ),
        (
            {
                "backbone": {"config": PIXELS},
                "data": {"source": "digits", "path": None, "vae": None},
                "solver": {"cfg_channels": None},
            },
            "data.source is digits",
        ),
        ({"solver": {"name": "ddpm"}}, "its solver ddpm draws noise"),
        ({"solver": {"eta": 0.5}}, "its solver ddim draws noise"),
        ({"solver": {"name": "dpm_solver", "method": "singlestep"}}, "singlestep"),
        ({"solver": {"name": "dpm_solver", "order": 3}}, "order 3"),
        ({"solver": {"cfg_interval": [0, 500]}}, r"cfg_interval is \[0.*. Search with"),
        ({"data": {"vae": "/nowhere"}}, "data.vae /nowhere"),
    ],
)  # fmt: skip
def test_what_a_pipeline_cannot_hold_is_refused_in_one_line(
    edited: Callable[..., Path], tmp_path: Path, sections: dict[str, Any], reason: str
) -> None:
    run = edited(**sections)
    with pytest.raises(ConfigError, match=reason) as caught:
        export_pipeline(run, 1, tmp_path / "pipeline")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*pipeline*"))


def test_adapters_are_refused(edited: Callable[..., Path], tmp_path: Path) -> None:
    run = edited()
    (run / "trials" / "0001" / "method.yaml").touch()
    with pytest.raises(ConfigError, match="run through trained adapters"):
        export_pipeline(run, 1, tmp_path / "pipeline")


def test_nothing_half_written_stays(
    edited: Callable[..., Path], tmp_path: Path, fill_disk: Callable[[], None]
) -> None:
    run, folder = edited(), tmp_path / "pipeline"
    with pytest.raises(NoResultError, match="Trial 99 has no complete result"):
        export_pipeline(run, 99, folder)
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="the folder is not empty"):
        export_pipeline(run, 1, folder)
    assert (folder / "mine.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="there is no folder"):
        export_pipeline(run, 1, tmp_path / "gone" / "pipeline")
    weights = run / "trials" / "0001" / "ema.safetensors"
    weights.rename(weights.with_suffix(".moved"))
    with pytest.raises(StorageError, match="they are gone"):
        export_pipeline(run, 1, tmp_path / "new")
    weights.with_suffix(".moved").rename(weights)
    fill_disk()
    with pytest.raises((StorageError, ConfigError), match="Cannot write"):
        export_pipeline(run, 1, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipeline", "run"]
