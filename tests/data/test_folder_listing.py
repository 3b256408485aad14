"""What of an image folder is read, what is left out, and what a user is told."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from schedsearch.data.folder_listing import class_warnings, list_pictures
from schedsearch.data.image_folder import ImageFolder
from schedsearch.data.loading import check_enough_images, check_labels_fit, load_source
from schedsearch.data.sources import ImagesInMemory
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

SHAPE = (3, 4, 4)


def picture(path: Path, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(path, format=kind)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        for index in range(2):
            picture(tmp_path / "set" / name / f"{index}.png")
    return tmp_path / "set"


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "deep/.cache", "#recycle"]
)
def test_leavings_of_tools_are_left_out_at_every_level(folder: Path, name: str) -> None:
    picture(folder / "a" / name / "0.png")
    picture(folder / "a" / "more" / name / "0.png")
    picture(folder / name.split("/")[-1] / "0.png")
    picture(folder / "a" / "more" / "2.png")
    assert len(list_pictures(folder).files) == 7
    assert list_pictures(folder).classes == ["a", "b", "c"]


def test_every_ending_of_the_kinds_that_are_read(folder: Path) -> None:
    for name, kind in {"a.gif": "GIF", "b.jfif": "JPEG", "c.JPE": "JPEG", "d.pgm": "PPM"}.items():
        picture(folder / "a" / name, kind)
    source = ImageFolder.open(folder, SHAPE)
    assert source.num_images == 10
    assert source.verify() == ()


def test_pictures_that_are_not_read_are_counted_by_ending(folder: Path) -> None:
    for name in ("x.heic", "y.avif", "z.svg", "all.zip"):
        (folder / "a" / name).write_bytes(b"?")
    picture(folder / "b" / "ILSVRC_0001")
    picture(folder / "b" / "photo.orig")
    (folder / "b" / "notes.txt").write_text("GIF89a is a format")
    (folder / "c" / "linked").symlink_to(folder / "b")
    (note,) = ImageFolder.open(folder, SHAPE).verify()
    for kind in (".heic", ".avif", ".svg", ".zip", "picture without an ending", ".orig"):
        assert f"1 {kind}" in note
    assert "1 linked folder" in note
    assert "txt" not in note


def test_an_empty_class_says_what_lies_in_it(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "0.heic").write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"'d' holds no images, but 1 \.heic"):
        list_pictures(folder)


def test_odd_files_count_as_damaged_in_the_dry_run_already(folder: Path) -> None:
    (folder / "a" / "gone.png").symlink_to("/no/such/place.png")
    os.mkfifo(folder / "a" / "pipe.png")  # opening it would block for ever
    (folder / "b" / "sub.png").mkdir()
    (folder / "b" / "empty.png").write_bytes(b"")
    os.link(folder / "a" / "0.png", os.fsencode(folder) + b"/a/\xff.png")  # not UTF-8
    with pytest.raises(ConfigError, match="cannot be read"):
        ImageFolder.open(folder, SHAPE, max_damaged=3).verify()
    source = ImageFolder.open(folder, SHAPE, max_damaged=4)
    (note,) = source.verify()
    assert "a link to nothing" in note
    assert source.fingerprint == ImageFolder.open(folder, SHAPE).fingerprint
    assert sum(map(len, source.uint8_batches(2))) == 7


class _Net:
    num_classes = 4


def test_fewer_classes_than_the_network_has(folder: Path, tmp_path: Path) -> None:
    (note,) = check_labels_fit(ImageFolder.open(folder, SHAPE), _Net())  # type: ignore[arg-type]
    assert "3 classes (a, b, c), but the network 4" in note
    settings = DataSettings(source="image_folder", path=str(folder), flip=True)
    assert check_labels_fit(load_source(settings, SHAPE), _Net()) == (note,)  # type: ignore[arg-type]
    images = ImagesInMemory(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.arange(2), 2)
    assert "2 classes, but the network 4" in check_labels_fit(images, _Net())[0]  # type: ignore[arg-type]


def test_names_that_are_hardly_classes(folder: Path) -> None:
    for name in ("train", "val"):
        picture(folder.parent / "above" / name / "a" / "0.png")
    slips, fewer = class_warnings(folder.parent / "above", 4)
    assert "folders train, val are taken for classes" in slips
    assert "2 classes (train, val), but the network 4" in fewer
    for number in range(11):
        picture(folder.parent / "numbers" / str(number) / "0.png")
    (note,) = class_warnings(folder.parent / "numbers", 11)
    assert "sorted as text: '10' has label 2" in note
    assert class_warnings(folder, 3) == ()


def test_a_path_of_the_wrong_kind_is_called_that(folder: Path, tmp_path: Path) -> None:
    import shutil

    for kind in ("zip", "tar", "gztar"):
        archive = shutil.make_archive(str(tmp_path / f"all-{kind}"), kind, folder)
        with pytest.raises(ConfigError, match=r"is an archive file; unpack it"):
            list_pictures(Path(archive))
    picture(tmp_path / "one.png")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        list_pictures(tmp_path / "one.png")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="a link to nothing"):
        list_pictures(tmp_path / "lost")


def test_one_image_is_too_few(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "only.png")
    (tmp_path / "set" / "bad.png").write_bytes(b"")
    settings = DataSettings(source="image_folder", path=str(tmp_path / "set"), max_damaged=1)
    source = load_source(settings, SHAPE)
    source.verify()
    with pytest.raises(ConfigError, match=r"at least 2 real images.*set gives 1\."):
        check_enough_images(source, settings)
