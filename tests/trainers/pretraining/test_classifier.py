"""Training the classifiers behind shipped extractors: reproducible, and it learns."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from schedsearch.evaluation.features.digits_cnn import DigitsCNN
from schedsearch.evaluation.features.digits_mlp import DigitsMLP
from schedsearch.evaluation.features.packaged import FeatureClassifier
from trainers.pretraining.auditor import load_data
from trainers.pretraining.classifier import accuracy, train
from trainers.pretraining.digits_cnn import main


@pytest.mark.parametrize("network", [DigitsCNN, DigitsMLP])
def test_training_is_reproducible_and_learns(network: Callable[[], FeatureClassifier]) -> None:
    learned, tested = load_data("digits_mlp", None, seed=1)
    first = train(network, learned, epochs=4, seed=3)
    again = train(network, learned, epochs=4, seed=3)
    other = train(network, learned, epochs=1, seed=4)
    images = tested.images[:9]
    assert torch.equal(first.features(images), again.features(images))
    assert not torch.equal(first.features(images), other.features(images))
    assert accuracy(first, tested) > 0.85
    features = first.features(learned.images)
    np.testing.assert_allclose(features.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(features.std(0), 1.0, atol=1e-3)


def test_the_command_of_the_digits_cnn(tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "cnn.safetensors"
    main(["--epochs", "1", "--output", str(out)])
    with safe_open(out, "pt") as file:
        record = json.loads(file.metadata()["training"])
    assert record["model"] == "schedsearch.evaluation.features.digits_cnn:DigitsCNN"
    assert record["command"] == "python -m trainers.pretraining.digits_cnn --seed 0 --epochs 1"
    assert 0.5 < float(record["validation_accuracy"]) <= 1.0
    assert "rank of the features' covariance: 64 of 64" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--epochs", "0", "--output", str(out)])
    assert "must be >= 1" in capsys.readouterr().err
