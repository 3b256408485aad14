"""Image folders with unreadable files: skipped, counted, limited."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from schedsearch.data.image_folder import ImageFolder
from schedsearch.data.loading import load_source
from schedsearch.data.pixels import to_uint8
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

SHAPE = (3, 4, 4)
PER_CLASS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of flat colours: the red of an image tells its class, the green its number."""
    for label, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for index in range(PER_CLASS):
            colour = (100 * label, index, 7)
            Image.new("RGB", (4, 4), colour).save(tmp_path / name / f"{index:02}.png")
    return tmp_path


def harm(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


def test_training_draws_another_image_and_its_label(folder: Path, caplog) -> None:
    harm(folder, "a/03.png", "b/11.png")
    source = ImageFolder.open(folder, SHAPE, max_damaged=2)
    with caplog.at_level(logging.WARNING):
        images, labels = source.batch(400, torch.Generator().manual_seed(0))
    assert labels is not None
    pixels = to_uint8(images)
    assert len(pixels) == 400
    assert (pixels[:, 0, 0, 0] == 100 * labels).all()
    assert not ((pixels[:, 1, 0, 0] == 3) & (labels == 0)).any()
    assert sorted(file.name for file in source.damaged) == ["03.png", "11.png"]
    assert sum("it is skipped" in message for message in caplog.messages) == 2


def test_good_draws_stay_where_they_were(folder: Path) -> None:
    whole = ImageFolder.open(folder, SHAPE)
    expected, _ = whole.batch(50, torch.Generator().manual_seed(0))
    harm(folder, "a/03.png")
    again, _ = ImageFolder.open(folder, SHAPE, max_damaged=1).batch(
        50, torch.Generator().manual_seed(0)
    )
    was_damaged = (to_uint8(expected)[:, 0] == 0) & (to_uint8(expected)[:, 1] == 3)
    same = (again == expected).flatten(1).all(1)
    assert int((~same).sum()) == int(was_damaged.flatten(1).all(1).sum()) > 0


def test_draws_are_the_same_whether_the_damage_was_known_or_not(folder: Path) -> None:
    # A resumed trial has not met the files that the first one met.
    harm(folder, *(f"a/{index:02}.png" for index in range(20)))
    source = ImageFolder.open(folder, SHAPE, max_damaged=20)
    first, _ = source.batch(60, torch.Generator().manual_seed(0))
    known, _ = source.batch(60, torch.Generator().manual_seed(0))
    fresh, _ = ImageFolder.open(folder, SHAPE, max_damaged=20).batch(
        60, torch.Generator().manual_seed(0)
    )
    assert torch.equal(first, known)
    assert torch.equal(first, fresh)


def test_the_reference_leaves_damaged_images_out(folder: Path) -> None:
    harm(folder, "a/00.png", "a/01.png", "b/29.png")
    source = ImageFolder.open(folder, SHAPE, max_damaged=3)
    batches = list(source.uint8_batches(2))
    assert sum(map(len, batches)) == 2 * PER_CLASS - 3
    assert all(len(batch) for batch in batches)


def test_one_more_than_allowed_is_an_error_that_names_some(folder: Path) -> None:
    harm(folder, *(f"b/{index:02}.png" for index in range(5)))
    source = load_source(
        DataSettings(source="image_folder", path=str(folder), max_damaged=4), SHAPE
    )
    pattern = r"5 of 60 images cannot be read, and data.max_damaged is 4: .*b/00\.png.*b/02\.png"
    with pytest.raises(ConfigError, match=pattern + r".*, \.\.\.\. Replace.*raise data\.max"):
        list(source.uint8_batches(10))


def test_verify_reports_what_is_skipped(folder: Path) -> None:
    assert ImageFolder.open(folder, SHAPE).verify() == ()
    harm(folder, "b/29.png")
    (note,) = ImageFolder.open(folder, SHAPE, max_damaged=1).verify()
    assert "1 of 60 images cannot be read" in note
    assert "b/29.png (not an image)" in note
    with pytest.raises(ConfigError, match=r"b/29\.png"):
        ImageFolder.open(folder, SHAPE).verify()


def test_verify_looks_into_every_class(tmp_path: Path) -> None:
    for label in range(40):  # more classes than images are looked at in all
        (tmp_path / f"{label:02}").mkdir()
        for index in range(3):
            Image.new("RGB", (4, 4)).save(tmp_path / f"{label:02}" / f"{index}.png")
        harm(tmp_path, f"{label:02}/2.png")
    source = ImageFolder.open(tmp_path, SHAPE, max_damaged=40)
    source.verify()
    assert len(source.damaged) == 40


def test_nothing_readable_ends_instead_of_drawing_for_ever(tmp_path: Path) -> None:
    harm(tmp_path, "0.png", "1.png")
    with pytest.raises(ConfigError, match="2 of 2 images cannot be read"):
        ImageFolder.open(tmp_path, SHAPE, max_damaged=99).batch(3, torch.Generator())


def test_loose_images_beside_class_folders_are_not_ignored(folder: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "loose.png")
    with pytest.raises(ConfigError, match=r"1 loose images such as loose\.png"):
        ImageFolder.open(folder, SHAPE)
