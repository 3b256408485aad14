from pathlib import Path

import numpy as np
import pytest
import torch

from schedsearch.data.loading import load_source
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

SHAPE = (3, 4, 4)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(50) % 5)
    return str(file)


def test_half_of_a_batch_is_mirrored_and_nothing_else_changes(path: str) -> None:
    plain = load_source(DataSettings(source="npz", path=path), SHAPE)
    mirrored = load_source(DataSettings(source="npz", path=path, flip=True), SHAPE)
    images, labels = plain.batch(200, torch.Generator().manual_seed(1))
    flipped, same_labels = mirrored.batch(200, torch.Generator().manual_seed(1))
    assert labels is not None
    assert same_labels is not None
    assert torch.equal(labels, same_labels)
    as_is = (flipped == images).flatten(1).all(1)
    turned = (flipped == images.flip(3)).flatten(1).all(1)  # left and right, not up and down
    assert bool((as_is ^ turned).all())
    assert 70 < int(turned.sum()) < 130
    # The reference, and with it the cache key, is that of the images themselves.
    assert mirrored.fingerprint == plain.fingerprint
    assert torch.equal(next(mirrored.uint8_batches(50)), next(plain.uint8_batches(50)))
    assert (mirrored.num_images, mirrored.num_classes) == (50, 5)
    assert torch.equal(mirrored.decode(images), images)
    assert mirrored.verify() == ()


def test_without_it_no_random_number_is_drawn(path: str) -> None:
    generator = torch.Generator().manual_seed(1)
    load_source(DataSettings(source="npz", path=path), SHAPE).batch(8, generator)
    expected = torch.Generator().manual_seed(1)
    torch.randint(50, (8,), generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())


@pytest.mark.parametrize("source", ["digits", "mnist", "latents"])
def test_some_sources_have_no_mirror_image(source) -> None:
    with pytest.raises(ConfigError, match="cannot be mirrored"):
        load_source(DataSettings(source=source, path="x", flip=True), (1, 8, 8))
