import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from mnist_files import idx, write_split

from schedsearch.data import mnist
from schedsearch.data.loading import load_reference_source, load_source
from schedsearch.data.pixels import to_uint8
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
LABELS = (np.arange(30) * 7 % 10).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torchvision root with archives of random pixels, taken for the published ones."""
    monkeypatch.setattr(mnist, "CONTENTS", write_split(tmp_path, "train", IMAGES, LABELS))
    return tmp_path


def settings(root: Path) -> DataSettings:
    return DataSettings(source="mnist", path=str(root))


def test_images_and_labels_belong_together(root: Path) -> None:
    source = load_source(settings(root), (1, 28, 28))
    assert (source.num_images, source.num_classes) == (30, 10)
    assert np.array_equal(torch.cat(list(source.uint8_batches(7)))[:, 0].numpy(), IMAGES)
    images, labels = source.batch(20, torch.Generator().manual_seed(0))
    assert labels is not None
    label_of = {i.tobytes(): int(y) for i, y in zip(IMAGES, LABELS, strict=True)}
    found = [label_of[image.numpy().tobytes()] for image in to_uint8(images)[:, 0]]
    assert found == labels.tolist()


def test_unpacked_files_are_read_and_the_folder_is_left_alone(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    before = sorted(folder.iterdir())
    packed = load_source(settings(root), (1, 28, 28)).fingerprint
    assert sorted(folder.iterdir()) == before
    for file in before:
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert load_source(settings(root), (1, 28, 28)).fingerprint == packed


def test_test_images_are_a_reference_and_never_train(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = np.random.default_rng(1).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    digests = write_split(root, "t10k", new, LABELS[:12])
    monkeypatch.setattr(mnist, "CONTENTS", mnist.CONTENTS | digests)
    apart = DataSettings(source="mnist", path=str(root), reference_split="test")
    source = load_source(apart, (1, 28, 28))
    assert source.num_images == 30
    reference = load_reference_source(apart, source, (1, 28, 28))
    assert np.array_equal(torch.cat(list(reference.uint8_batches(5)))[:, 0].numpy(), new)
    assert reference.fingerprint != source.fingerprint
    assert load_reference_source(settings(root), source, (1, 28, 28)) is source


def test_other_shapes_say_what_to_set(root: Path) -> None:
    with pytest.raises(ConfigError, match="in_chans: 1 and img_size: 28"):
        load_source(settings(root), (1, 32, 32))


def test_missing_files_are_named_and_never_fetched(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"MNIST/raw/train-images.*does not exist.*download=True"
    ):
        load_source(settings(tmp_path), (1, 28, 28))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no gzip"])
def test_damaged_archives(root: Path, harm) -> None:
    file = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(ConfigError, match=r"train-images.*(cannot be read|not the published)"):
        load_source(settings(root), (1, 28, 28))


def test_other_contents_are_refused(root: Path) -> None:
    file = root / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(idx(LABELS[::-1].copy())))
    with pytest.raises(ConfigError, match=r"not the published MNIST file.*npz"):
        load_source(settings(root), (1, 28, 28))
