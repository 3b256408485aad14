"""The extractor and the auditor for colour tiles."""

import hashlib
import json
from importlib import resources

import pytest
import torch
from safetensors import safe_open

from schedsearch.evaluation.features import Classifier, FeatureExtractor, build_extractor
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.exceptions import CheckpointError

NAMES = {"tiles_cnn": "tiles CNN", "tiles_resnet": "tiles ResNet"}


def random_images(count: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (count, 3, 8, 8), generator=generator)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).to(torch.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_meets_the_protocols_and_names_its_weights(name: str) -> None:
    extractor = build_extractor(name, None)
    assert isinstance(extractor, FeatureExtractor)
    assert isinstance(extractor, Classifier)
    path = resources.files("schedsearch.pretrained") / f"{name}.safetensors"
    data = path.read_bytes()
    assert extractor.sha256 == hashlib.sha256(data).hexdigest()
    assert len(data) < 400_000
    assert extractor.name == NAMES[name]
    images = random_images()
    features = extractor(images)
    assert features.shape == (len(images), extractor.dim)
    assert torch.linalg.matrix_rank(features.double().T.cov()) == extractor.dim
    assert extractor.classify(images).shape == (len(images), 5)
    with safe_open(str(path), "pt") as file:
        training = json.loads(file.metadata()["training"])
    assert f" {name} --seed " in training["command"]
    assert float(training["test_accuracy"]) > 0.9


def test_they_differ_and_both_see_damage() -> None:
    assert len({build_extractor(name, None).sha256 for name in NAMES}) == 2
    images = random_images(600)
    bad = images[:300].clone()
    bad[..., :16] = 128  # the left half is empty
    for name in NAMES:
        extractor = build_extractor(name, None)
        real = feature_statistics(extractor(images[300:]))
        clean = frechet_distance(feature_statistics(extractor(images[:300])), real)
        assert frechet_distance(feature_statistics(extractor(bad)), real) > 1.5 * clean


@pytest.mark.parametrize("name", NAMES)
def test_other_images_and_damaged_weights_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = build_extractor(name, None)
    with pytest.raises(ValueError, match=rf"{NAMES[name]} takes .* shape \(N, 3, 32, 32\)"):
        extractor(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    module = f"schedsearch.evaluation.features.{name}"
    monkeypatch.setattr(f"{module}.WEIGHTS_FILE", "digits_cnn.safetensors")
    with pytest.raises(CheckpointError, match=r"digits_cnn\.safetensors cannot be read"):
        build_extractor(name, None)
