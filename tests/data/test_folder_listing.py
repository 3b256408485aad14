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
    "name",
    [
        *(".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "deep/.cache", "#recycle"),
        *("System Volume Information", "@Recycle", "#snapshot", "node_modules"),
    ],
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
    for name in ("x.heic", "y.avif", "z.svg", "all.zip", "c.NPY", "d.parquet", "e.mp4"):
        (folder / "a" / name).write_bytes(b"?")
    (folder / "a" / "IMG_1").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "lost class").symlink_to("nowhere")
    os.mkfifo(folder / "b" / "pipe")
    picture(folder / "b" / "ILSVRC_0001")
    picture(folder / "b" / "photo.orig")
    (folder / "b" / "notes.txt").write_text("GIF89a is a format")
    (folder / "c" / "linked").symlink_to(folder / "b")
    (note,) = ImageFolder.open(folder, SHAPE).verify()
    kinds = (".heic", ".avif", ".svg", ".zip", ".npy", ".parquet", ".mp4", ".orig")
    for kind in (*kinds, "linked folder", "link to nothing", "device or pipe"):
        assert f"1 {kind}" in note
    assert "2 picture without an ending" in note
    assert "txt" not in note


@pytest.mark.parametrize("target", [".", "..", "a"])
def test_a_class_that_is_a_link_to_another_folder_of_the_set_is_refused(
    folder: Path, target: str
) -> None:
    (folder / "z").symlink_to(target)
    with pytest.raises(ConfigError, match=r"'z' and .* are the same folder"):
        list_pictures(folder)


def test_pictures_in_subfolders_of_classes_are_counted(folder: Path) -> None:
    picture(folder / "a" / "masks" / "0.png")
    picture(folder / "b" / "val" / "deep" / "0.png")
    (note,) = ImageFolder.open(folder, SHAPE).verify()
    assert "2 images lie in subfolders of class folders (masks, val)" in note


def test_files_of_arrays_alone_are_named(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy", "c.parquet"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"holds no images .*, but 2 \.npy, 1 \.parquet"):
        list_pictures(tmp_path)


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
    assert class_warnings(folder, 3) == ()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([str(number) for number in range(11)], "sorted as text: '10' has label 2"),
        ([f"class_{number}" for number in range(9, 12)], "'class_10' has label 0"),
        (["1", "2", "3"], "'1' has label 0"),
        (["0", "1", "3"], "'3' has label 2"),
        (["Training Set", "test-images"], "folders Training Set, test-images are taken"),
        (["fold1", "fold2"], "folders fold1, fold2 are taken"),
    ],
)
def test_names_that_may_not_mean_their_label(tmp_path: Path, names: list[str], said: str) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    (note,) = class_warnings(tmp_path, len(names))
    assert said in note


def test_names_in_order_are_no_matter(tmp_path: Path) -> None:
    for name in ("0", "1", "2"):
        (tmp_path / name).mkdir()
    assert class_warnings(tmp_path, 3) == ()
    for name in ("n01440764", "n01443537", "test tube", "train car"):
        (tmp_path / "other" / name).mkdir(parents=True)
    assert class_warnings(tmp_path / "other", 4) == ()


def test_a_path_of_the_wrong_kind_is_called_that(folder: Path, tmp_path: Path) -> None:
    import shutil

    for kind in ("zip", "tar", "gztar"):
        archive = shutil.make_archive(str(tmp_path / f"all-{kind}"), kind, folder)
        with pytest.raises(ConfigError, match=r"is an archive file; unpack it"):
            list_pictures(Path(archive))
    picture(tmp_path / "one.png")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        list_pictures(tmp_path / "one.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is a device or pipe, not a folder"):
        list_pictures(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="File name too long"):
        list_pictures(tmp_path / ("x" * 300))
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
        check_enough_images(source, f"data.path {settings.path}")
