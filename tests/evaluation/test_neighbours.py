"""Distances to training images, the radius of near copies, and their cache."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from schedsearch.data.digits import load_digits
from schedsearch.evaluation.real_images import neighbours
from schedsearch.evaluation.real_images.neighbours import (
    NATURAL_SHARE,
    TrainingNeighbours,
    load_or_compute_neighbours,
    nearest_distances,
    radius_of,
)


def images_of(num: int, seed: int = 0, shape: tuple[int, int, int] = (3, 4, 5)) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (num, *shape), dtype=np.uint8))


class Source:
    fingerprint = "sha256:abc"

    def __init__(self, images: Tensor) -> None:
        self.images, self.num_images, self.num_reads = images, len(images), 0

    def uint8_batches(self, batch_size: int):
        self.num_reads += batch_size > 1
        yield from self.images.split(min(batch_size, 7))


def by_hand(images: Tensor, others: Tensor) -> np.ndarray:
    """Every pair, pixels scaled to [-1, 1] first."""
    ours, theirs = (x.numpy().astype(float) / 127.5 - 1 for x in (images, others))
    pairs = ours[:, None] - theirs[None]
    return np.sqrt((pairs**2).reshape(*pairs.shape[:2], -1).sum(2))


def test_distances_are_those_of_all_pairs() -> None:
    images, others = images_of(9), images_of(40, seed=1)
    found = nearest_distances(images, others)
    np.testing.assert_allclose(found, by_hand(images, others).min(1), rtol=1e-12)
    white, black = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8), images_of(1) * 0
    assert nearest_distances(white, torch.zeros_like(white)).item() == pytest.approx(16)
    assert nearest_distances(black, images_of(1) * 0).item() == 0


def test_an_image_is_not_its_own_neighbour() -> None:
    images = images_of(30)
    rows = torch.tensor([3, 29, 0])
    pairs = by_hand(images, images)
    np.fill_diagonal(pairs, np.inf)
    found = nearest_distances(images[rows], images, own_rows=rows)
    np.testing.assert_allclose(found, pairs.min(1)[rows], rtol=1e-12)


def test_mirrored_images_count_where_training_mirrors() -> None:
    images, others = images_of(9), images_of(40, seed=1)
    both = torch.cat([others, others.flip(3)])
    found = nearest_distances(images, others, mirrored=True)
    np.testing.assert_allclose(found, by_hand(images, both).min(1), rtol=1e-12)
    flipped = TrainingNeighbours(images=others, radius=0.0, mirrored=True)
    assert flipped.compare(others.flip(3)).near_copies == 1.0
    assert TrainingNeighbours(images=others, radius=0.0, mirrored=False).compare(
        others.flip(3)
    ).near_copies == pytest.approx(0.0)


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, rows = images_of(50), torch.arange(50)
    whole = nearest_distances(images, images, mirrored=True, own_rows=rows)
    monkeypatch.setattr(neighbours, "_ROWS", 8)
    monkeypatch.setattr(neighbours, "_CHUNK_VALUES", 7 * 60)
    parts = nearest_distances(images, images, mirrored=True, own_rows=rows)
    assert torch.equal(whole, parts)


def test_the_radius_is_a_percentile_of_distances_to_the_nearest_other() -> None:
    images = images_of(200)
    pairs = by_hand(images, images)
    np.fill_diagonal(pairs, np.inf)
    expected = np.quantile(pairs.min(1), NATURAL_SHARE)
    assert radius_of(images) == pytest.approx(expected, rel=1e-12)


def test_a_copied_training_image_is_a_near_copy() -> None:
    images = load_digits().images
    training, new = images[:1200], images[1200:]
    found = TrainingNeighbours(images=training, radius=radius_of(training), mirrored=False)
    assert found.compare(training[:100]).near_copies == 1.0
    assert found.compare(training[:100]).distance == 0.0
    mixed = torch.cat([training[:60], new[:540]])
    natural = found.compare(new[:540])
    assert found.compare(mixed).near_copies == pytest.approx(0.1 + 0.9 * natural.near_copies)
    assert found.compare(mixed).distance == pytest.approx(0.9 * natural.distance)


def test_five_percent_of_new_digits_are_near_copies() -> None:
    images = load_digits().images
    shares = []
    for seed in range(4):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        training, new = images[order[:1300]], images[order[1300:]]
        found = TrainingNeighbours(images=training, radius=radius_of(training), mirrored=False)
        shares.append(found.compare(new).near_copies)
    assert np.mean(shares) == pytest.approx(NATURAL_SHARE, abs=0.015)


def test_duplicates_in_the_training_set_do_not_hide_copies() -> None:
    same = images_of(1).expand(20, -1, -1, -1)
    assert radius_of(same) == 0.0
    found = TrainingNeighbours(images=same, radius=0.0, mirrored=False)
    assert found.compare(same[:2]).near_copies == 1.0
    assert found.compare(images_of(2, seed=1)).near_copies == 0.0


def test_it_is_computed_once_and_read_back_equal(tmp_path: Path) -> None:
    source, folder = Source(images_of(60)), tmp_path / "new" / "reference"
    first = load_or_compute_neighbours(source, folder)
    again = load_or_compute_neighbours(source, folder)
    assert first is not None
    assert again is not None
    assert source.num_reads == 1
    assert torch.equal(first.images, source.images)
    assert torch.equal(again.images, first.images)
    assert again.radius == first.radius == radius_of(source.images)
    mirrored = load_or_compute_neighbours(source, folder, mirrored=True)
    assert mirrored is not None
    assert mirrored.radius <= first.radius  # a mirror image may be nearer still
    assert source.num_reads == 2


@pytest.mark.parametrize("damage", ["truncate", "empty", "pixel", "radius", "swap"])
def test_a_damaged_cache_is_noted_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    source = Source(images_of(60))
    first = load_or_compute_neighbours(source, tmp_path)
    assert first is not None
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    if damage == "truncate":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = b""
    elif damage == "pixel":
        data = data[:-10] + bytes([data[-10] ^ 1]) + data[-9:]
    elif damage == "radius":
        digits = repr(first.radius).encode()
        assert digits in data
        data = data.replace(digits, b"9" * len(digits))
    else:
        other = Source(images_of(60, seed=1))
        other.fingerprint = "sha256:def"
        load_or_compute_neighbours(other, tmp_path / "other")
        data = next((tmp_path / "other").iterdir()).read_bytes()
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        again = load_or_compute_neighbours(source, tmp_path)
    assert "damaged" in caplog.text
    assert again is not None
    assert (source.num_reads, again.radius) == (2, first.radius)
    assert torch.equal(again.images, first.images)
    load_or_compute_neighbours(source, tmp_path)
    assert source.num_reads == 2, "the damaged file was not replaced"


def test_of_a_large_set_as_many_are_drawn_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "MAX_VALUES", 21 * 60 + 59)
    source = Source(images_of(100))
    found = load_or_compute_neighbours(source, tmp_path / "a")
    again = load_or_compute_neighbours(source, tmp_path / "b")
    assert found is not None
    assert again is not None
    assert len(found.images) == 21
    assert torch.equal(found.images, again.images)
    places = (nearest_distances(found.images, source.images) == 0).sum()
    assert places == 21
    assert not torch.equal(found.images, source.images[:21])  # spread over the set


def test_where_pixels_say_nothing_there_is_no_value(tmp_path: Path) -> None:
    assert load_or_compute_neighbours(Source(images_of(1)), tmp_path) is None
    assert load_or_compute_neighbours(Source(images_of(0)), tmp_path) is None
    large = Source(images_of(3, shape=(3, 65, 64)))
    assert load_or_compute_neighbours(large, tmp_path) is None
    assert not list(tmp_path.iterdir())
    assert load_or_compute_neighbours(Source(images_of(3, shape=(3, 64, 64))), tmp_path)
