"""Training an auditor: its data, the file it writes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mnist_files import write_split
from safetensors import safe_open

from schedsearch.data import mnist
from trainers.pretraining.auditor import halves, load_data, main
from trainers.pretraining.classifier import Labelled


def test_halves_are_disjoint_and_have_every_class() -> None:
    first, second = load_data("digits_mlp", None, seed=1)
    assert len(first.images) + len(second.images) == 1797
    assert abs(len(first.images) - len(second.images)) <= 10
    numbers = torch.arange(40)
    marked = Labelled(numbers[:, None, None, None].to(torch.uint8), numbers % 4)
    a, b = (half.images.flatten().tolist() for half in halves(marked, seed=0))
    assert sorted(a + b) == numbers.tolist()
    assert a != halves(marked, seed=1)[0].images.flatten().tolist()


def test_the_command_writes_equal_bytes_and_no_path(tmp_path: Path, capsys) -> None:
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for file in files:
        assert main(["digits_mlp", "--epochs", "1", "--output", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    with safe_open(files[0], "pt") as file:
        record = json.loads(file.metadata()["training"])
    assert (
        record["command"]
        == "python -m trainers.pretraining.auditor digits_mlp --seed 1 --epochs 1"
    )
    assert str(tmp_path) not in json.dumps(record)
    assert "rank of the features' covariance: 48 of 48" in capsys.readouterr().out


def test_mnist_is_read_from_torchvisions_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    rng, digests = np.random.default_rng(0), {}
    for split, count in (("train", 256), ("t10k", 64)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), rng.integers(0, 10, count)
        digests |= write_split(tmp_path, split, images, labels)
    out = tmp_path / "out.safetensors"
    arguments = ["mnist_cnn", "--epochs", "1", "--output", str(out)]
    assert main([*arguments, "--path", str(tmp_path)]) == 2  # not the published files
    assert "is not the published MNIST file" in capsys.readouterr().err
    monkeypatch.setattr(mnist, "CONTENTS", digests)
    assert main([*arguments, "--path", str(tmp_path)]) == 0
    assert out.stat().st_size < 300_000
    with safe_open(out, "pt") as file:
        record = json.loads(file.metadata()["training"])
    assert record["model"].endswith(":MnistCNN")
    assert record["command"].endswith("mnist_cnn --seed 1 --epochs 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["mnist_cnn"], "mnist_cnn needs --path"), (["mnist_cnn", "--path", "x"], "does not exist")],
)
def test_mistakes_are_explained(arguments, message, tmp_path: Path, capsys) -> None:
    assert main([*arguments, "--output", str(tmp_path / "x.safetensors")]) == 2
    assert message in capsys.readouterr().err


def test_no_epochs_is_refused(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["digits_mlp", "--epochs", "0", "--output", str(tmp_path / "x.safetensors")])
    assert "must be >= 1" in capsys.readouterr().err
