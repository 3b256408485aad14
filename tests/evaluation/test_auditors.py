"""The second extractors: independent of the first, and as good at what they look at."""

import hashlib
import json
from importlib import resources

import numpy as np
import pytest
import torch
from safetensors import safe_open

from schedsearch.data.digits import load_digits
from schedsearch.evaluation.features import Classifier, FeatureExtractor, build_extractor
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.exceptions import CheckpointError

SHAPES = {"digits_mlp": (1, 8, 8), "mnist_cnn": (1, 28, 28)}
NAMES = {"digits_mlp": "digits MLP", "mnist_cnn": "MNIST CNN"}


def random_images(name: str, count: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *SHAPES[name]), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", SHAPES)
def test_meets_the_protocols_and_names_its_weights(name: str) -> None:
    extractor = build_extractor(name, None)
    assert isinstance(extractor, FeatureExtractor)
    assert isinstance(extractor, Classifier)
    data = (resources.files("schedsearch.pretrained") / f"{name}.safetensors").read_bytes()
    assert extractor.sha256 == hashlib.sha256(data).hexdigest()
    assert len(data) < 300_000
    assert extractor.name == NAMES[name]
    images = random_images(name)
    features = extractor(images)
    assert features.shape == (len(images), extractor.dim)
    assert features.dtype == torch.float32
    assert torch.linalg.matrix_rank(features.double().T.cov()) == extractor.dim
    assert extractor.classify(images).shape == (len(images), 10)


@pytest.mark.parametrize("name", SHAPES)
def test_the_header_says_how_good_it_is_and_how_it_was_made(name: str) -> None:
    path = resources.files("schedsearch.pretrained") / f"{name}.safetensors"
    with safe_open(str(path), "pt") as file:
        training = json.loads(file.metadata()["training"])
    assert f" {name} --seed " in training["command"]
    assert float(training["test_accuracy"]) > 0.98


def test_the_digits_mlp_names_scans_and_is_standardised_on_the_half_it_learned() -> None:
    data = load_digits()
    extractor = build_extractor("digits_mlp", None)
    assert isinstance(extractor, Classifier)
    found = extractor.classify(data.images).argmax(1)
    assert float((found == data.labels).float().mean()) > 0.98
    features = extractor(data.images)
    np.testing.assert_allclose(features.mean(0), 0.0, atol=0.15)
    np.testing.assert_allclose(features.std(0), 1.0, atol=0.15)


@pytest.mark.parametrize("damage", ["noise", "fewer classes"])
def test_it_sees_the_damage_that_the_first_extractor_sees(damage: str) -> None:
    data = load_digits()
    rng = np.random.default_rng(0)
    order = torch.from_numpy(rng.permutation(data.num_images))
    first, second = data.images[order[:898]], data.images[order[898:]]
    if damage == "noise":
        noisy = first.numpy() + rng.normal(0, 25, first.shape)
        bad = torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))
    else:
        bad = data.images[data.labels < 7]
    for name in ("digits", "digits_mlp"):
        extractor = build_extractor(name, None)
        real = feature_statistics(extractor(second))
        clean = frechet_distance(feature_statistics(extractor(first)), real)
        damaged = frechet_distance(feature_statistics(extractor(bad)), real)
        assert damaged > 3 * clean, name


def test_two_extractors_never_pass_for_one_another() -> None:
    digests = {build_extractor(name, None).sha256 for name in ("digits", *SHAPES)}
    assert len(digests) == 3


def test_an_mlp_has_no_convolutions() -> None:
    from schedsearch.evaluation.features.digits_mlp import DigitsMLP

    assert not any(isinstance(module, torch.nn.Conv2d) for module in DigitsMLP().modules())


@pytest.mark.parametrize("name", SHAPES)
def test_other_images_are_refused(name: str) -> None:
    extractor = build_extractor(name, None)
    with pytest.raises(ValueError, match=f"The {NAMES[name]} takes uint8 images of shape"):
        extractor(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8"):
        extractor(torch.zeros(2, *SHAPES[name]))


@pytest.mark.parametrize("name", SHAPES)
def test_damaged_package_weights_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"schedsearch.evaluation.features.{name}"
    monkeypatch.setattr(f"{module}.WEIGHTS_FILE", "digits_cnn.safetensors")
    with pytest.raises(CheckpointError, match=r"digits_cnn\.safetensors cannot be read"):
        build_extractor(name, None)
