"""What a weights file says of its training is compared with the search space."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_dit import CONFIG

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import load_backbone_from
from schedsearch.backbones.weights.claims import check_claims
from schedsearch.backbones.weights.conversion import convert
from schedsearch.exceptions import CheckpointError
from schedsearch.settings import BackboneSettings, DiffusionSettings


def settings_of(path: Path) -> BackboneSettings:
    return BackboneSettings(family="dit", config=CONFIG, checkpoint=str(path))


def check(tmp_path: Path, said: object, **diffusion: Any) -> None:
    path = tmp_path / "net.pt"
    torch.save({"model": DiT(**CONFIG).state_dict(), "args": said}, path)
    check_claims(load_backbone_from(settings_of(path)), DiffusionSettings(**diffusion))


@pytest.mark.parametrize(
    ("said", "key"),
    [
        (Namespace(model="SiT-XL/2", path_type="Linear", prediction="velocity"), "SiT-XL/2"),
        ({"prediction": "v"}, "prediction v"),
        ({"transport": {"path_type": "GVP"}}, "GVP"),
        ({"model": {"parameterization": "x_start"}}, "parameterization x_start"),
        ({"prediction_type": "v_prediction"}, "v_prediction"),
        ({"predict_xstart": True}, "predict_xstart"),
        ({"noise_schedule": "cosine"}, "noise_schedule cosine"),
        ({"beta_schedule": "scaled_linear"}, "scaled_linear"),
        ({"diffusion_steps": 4000}, "diffusion_steps 4000"),
        ({"beta_end": 0.012}, "beta_end 0.012"),
        ({"model_mean_type": "ModelMeanType.START_X"}, "START_X"),
        ({"predict_v": True}, "predict_v"),
        ({"v_parameterization": "true"}, "v_parameterization"),
        ({"pred": "x_pred"}, "pred x_pred"),
        ({"Prediction-Type": "velocity"}, "velocity"),
        ([{"diffusion": [{"prediction_type": "v_prediction"}]}], "v_prediction"),
        ("diffusion:\n  prediction_type: v_prediction\n", "v_prediction"),
        ('{"prediction_type": "v_prediction"}', "v_prediction"),
        ({"beta_start": "0.00085"}, "beta_start 0.00085"),
        ({"num_diffusion_timesteps": 4000}, "4000"),
        ({"linear_start": 0.0015}, "linear_start 0.0015"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler"),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
    ],
)
def test_a_contradiction_ends_with_both_values(tmp_path: Path, said: object, key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"trained with .*{key}.*has diffusion\."):
        check(tmp_path, said)


def test_what_agrees_or_says_nothing_passes(tmp_path: Path) -> None:
    check(tmp_path, Namespace(model="DiT-XL/2", image_size=64, num_classes=3, lr=1e-4))
    check(tmp_path, {"prediction": "velocity"}, prediction="v")
    check(tmp_path, {"beta_schedule": "squaredcos_cap_v2"}, betas="cosine")
    check(tmp_path, {"prediction_type": "epsilon", "beta_start": 0.0001, "beta_end": 0.02})
    check(tmp_path, {"objective": "train_loss", "noise_schedule": "linear"}, betas="vp")
    check(tmp_path, {"model_mean_type": "EPSILON", "predict_xstart": False, "pred": True})
    check(tmp_path, {"pred_type": "noise_pred", "rescale_betas_zero_snr": False})
    check(tmp_path, {"trained_betas": None, "_class_name": "DDIMScheduler"})
    check(tmp_path, {"optimizer": {"betas": [0.9, 0.99]}, "schedule": "cosine"})


def test_other_sizes_and_classes_are_a_warning(tmp_path: Path, caplog: Any) -> None:
    check(tmp_path, {"num_classes": "1000", "image_size": 48, "num_heads": 4})
    assert "num_classes 1000, but the network has 3" in caplog.text
    assert "image_size 48, but the network takes 8 x 8" in caplog.text
    assert "num_heads 4, but the network has 2" in caplog.text  # no shape shows it
    check(tmp_path, Namespace(model="DiT-S/4"))
    assert "num_heads 6, but the network has 2" in caplog.text


def test_files_beside_the_weights_and_headers_count_too(tmp_path: Path) -> None:
    state = DiT(**CONFIG).state_dict()
    (tmp_path / "transformer").mkdir()
    (tmp_path / "scheduler").mkdir()
    plain = tmp_path / "transformer" / "net.safetensors"
    save_file(state, plain)
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    (tmp_path / "transformer" / "scheduler").mkdir()
    inside = ("config.json", "args.json", "scheduler_config.json", "config.yaml", "hparams.yaml")
    files = [plain.with_name(name) for name in inside]
    files += [plain.parent / "scheduler" / scheduler.name, tmp_path / "hparams.yaml"]
    for file in (scheduler, *files):
        text = "prediction_type: v_prediction\n"
        said = {"prediction_type": "v_prediction"}
        file.write_text(text if file.suffix == ".yaml" else f"\ufeff{json.dumps(said)}")
        with pytest.raises(CheckpointError, match="v_prediction"):
            check_claims(load_backbone_from(settings_of(plain)), DiffusionSettings())
        file.unlink()
    for header in (
        {"prediction": "velocity"},
        {"modelspec.prediction_type": "velocity"},
        {"config": json.dumps({"diffusion": {"prediction": "velocity"}})},
    ):
        save_file(state, plain, header)
        with pytest.raises(CheckpointError, match="velocity"):
            check_claims(load_backbone_from(settings_of(plain)), DiffusionSettings())


def test_a_search_space_beside_weights_is_no_claim(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("backbone: {}\ndiffusion: {prediction: v}\n")
    check(tmp_path, {})


def test_a_converted_file_keeps_what_its_source_said(tmp_path: Path) -> None:
    torch.save(
        {"ema": DiT(**CONFIG).state_dict(), "args": {"prediction": "v"}}, tmp_path / "net.pt"
    )
    target = tmp_path / "net.safetensors"
    convert(
        str(tmp_path / "net.pt"), target, "safetensors", backbone=settings_of(tmp_path / "net.pt")
    )
    with pytest.raises(CheckpointError, match="prediction v"):
        check_claims(load_backbone_from(settings_of(target)), DiffusionSettings())


class _Flow:
    process, betas, prediction = "flow", None, "velocity"


def test_a_space_of_flow_matching_takes_what_was_trained_so(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    said = Namespace(model="SiT-XL/2", path_type="Linear", prediction="velocity")
    torch.save({"model": DiT(**CONFIG).state_dict(), "args": said}, path)
    net = load_backbone_from(settings_of(path))
    check_claims(net, _Flow())  # type: ignore[arg-type]
    torch.save({"model": DiT(**CONFIG).state_dict(), "args": {"prediction": "noise"}}, path)
    with pytest.raises(CheckpointError, match="prediction noise"):
        check_claims(load_backbone_from(settings_of(path)), _Flow())  # type: ignore[arg-type]
