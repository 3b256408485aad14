import hashlib
from importlib import resources

import numpy as np
import pytest
import torch

from schedsearch.data.digits import load_digits
from schedsearch.evaluation.features import (
    Classifier,
    FeatureExtractor,
    build_extractor,
    extract_features,
    iterate_batches,
)
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.exceptions import CheckpointError, ConfigError
from trainers.pretraining.classifier import Labelled
from trainers.pretraining.digits_cnn import split


@pytest.fixture(scope="module")
def digits():
    return Labelled.of(load_digits())


@pytest.fixture(scope="module")
def extractor():
    return build_extractor("digits", None, "cpu")


def test_meets_the_protocols_and_names_its_weights(extractor):
    assert isinstance(extractor, FeatureExtractor)
    assert isinstance(extractor, Classifier)
    data = (resources.files("schedsearch.pretrained") / "digits_cnn.safetensors").read_bytes()
    assert extractor.sha256 == hashlib.sha256(data).hexdigest()
    assert extractor.dim == 64


def test_names_the_held_out_digits(extractor, digits):
    _, held_out = split(digits, seed=0)
    found = extractor.classify(held_out.images).argmax(1)
    assert float((found == held_out.labels).float().mean()) >= 0.99


def test_features_are_standardised_and_full_rank(extractor, digits):
    learned, _ = split(digits, seed=0)
    features = extractor(learned.images)
    assert features.dtype == torch.float32
    assert features.shape == (len(learned.images), 64)
    np.testing.assert_allclose(features.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(features.std(0), 1.0, atol=1e-3)
    assert torch.linalg.matrix_rank(features.double().T.cov()) == 64


def test_features_do_not_depend_on_the_batch(extractor, digits):
    images = digits.images[:40]
    whole = extractor(images)
    parts = extract_features(extractor, iterate_batches(images, 7))
    np.testing.assert_allclose(parts, whole, atol=2e-5)


def test_distance_sees_noise_that_the_eye_sees(extractor, digits):
    images = digits.images
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    first, second = images[order[:898]], images[order[898:]]
    noise = np.random.default_rng(0).normal(0, 25, first.shape)
    noisy = torch.from_numpy((first.numpy() + noise).clip(0, 255).astype(np.uint8))
    real = feature_statistics(extractor(second))
    clean = frechet_distance(feature_statistics(extractor(first)), real)
    damaged = frechet_distance(feature_statistics(extractor(noisy)), real)
    assert clean < 1.0
    assert damaged > 3 * clean


def test_other_images_are_refused(extractor):
    with pytest.raises(ValueError, match=r"\(N, 1, 8, 8\)"):
        extractor(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8"):
        extractor(torch.zeros(2, 1, 8, 8))


def test_damaged_package_weights_are_named(monkeypatch):
    monkeypatch.setattr(
        "schedsearch.evaluation.features.digits_cnn.WEIGHTS_FILE", "missing.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"missing\.safetensors"):
        build_extractor("digits", None)


class MeanColour:
    """A user's extractor, as a search space may name it."""

    name, dim, sha256 = "mean colour", 1, "0" * 64

    def __init__(self, features_path, device):
        self.path, self.device = features_path, device

    def __call__(self, images):
        return images.float().mean((1, 2, 3))[:, None]


class Nameless:
    dim, sha256 = 1, "0" * 64

    def __init__(self, features_path, device):
        pass

    def __call__(self, images):
        return images


def test_a_class_of_ones_own():
    made = build_extractor(f"{__name__}:MeanColour", "some/path", "cpu")
    assert made(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8)).tolist() == [[7.0], [7.0]]
    assert made.path == "some/path"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("digit", "Unknown features 'digit'"),
        ("no_such_module:Class", "no_such_module"),
        (f"{__name__}:NoSuchClass", "NoSuchClass"),
        (f"{__name__}:Nameless", "lacks name"),
        ("builtins:int", "int"),
    ],
)
def test_unusable_names_are_explained(features, message):
    with pytest.raises(ConfigError, match=message):
        build_extractor(features, None)
