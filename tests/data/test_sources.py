import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from schedsearch.data.image_folder import ImageFolder
from schedsearch.data.loading import check_labels_fit, load_reference_source, load_source
from schedsearch.data.pixels import to_float, to_uint8
from schedsearch.data.sources import ImageSource
from schedsearch.exceptions import ConfigError
from schedsearch.settings import DataSettings

SHAPE = (3, 6, 6)


def write_images(folder: Path, count: int, size: tuple[int, int] = (9, 7)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(folder.name.encode()))
    for index in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def write_npz(path: Path, **arrays: object) -> DataSettings:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return DataSettings(source="npz", path=str(path))


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    for name, count in (("bird", 3), ("ant", 5), ("cat", 2)):
        write_images(tmp_path / "images" / name, count)
    return tmp_path / "images"


@pytest.fixture(params=["digits", "image_folder", "flat", "npz"])
def source(request: pytest.FixtureRequest, tmp_path: Path, class_folders: Path) -> ImageSource:
    if request.param == "digits":
        return load_source(DataSettings(source="digits"), (1, 8, 8))
    if request.param == "npz":
        images = np.random.default_rng(0).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)
        settings = write_npz(tmp_path / "a.npz", images=images, labels=np.arange(10) % 4)
        return load_source(settings, SHAPE)
    path = class_folders
    if request.param == "flat":
        path = tmp_path / "flat"
        write_images(path, 10)
    return load_source(DataSettings(source="image_folder", path=str(path)), SHAPE)


def test_contract_of_every_source(source: ImageSource) -> None:
    assert source.verify() == ()
    everything = torch.cat(list(source.uint8_batches(4)))
    assert everything.dtype == torch.uint8
    assert len(everything) == source.num_images
    images, labels = source.batch(7, torch.Generator().manual_seed(3))
    assert images.shape == (7, *everything.shape[1:])
    assert images.dtype == torch.float32
    assert -1.0 <= float(images.min()) < float(images.max()) <= 1.0
    known = {image.numpy().tobytes() for image in everything}
    assert all(image.numpy().tobytes() in known for image in to_uint8(images))
    if source.num_classes is None:
        assert labels is None
    else:
        assert labels is not None
        assert labels.dtype == torch.int64
        assert labels.shape == (7,)
        assert 0 <= int(labels.min()) <= int(labels.max()) < source.num_classes
    again, _ = source.batch(7, torch.Generator().manual_seed(3))
    assert torch.equal(images, again)
    other, _ = source.batch(7, torch.Generator().manual_seed(4))
    assert not torch.equal(images, other)
    assert source.fingerprint.startswith("sha256:")
    assert torch.equal(to_uint8(source.decode(images)), to_uint8(images))


def test_digits_are_the_real_ones() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digits = load_source(DataSettings(source="digits"), (1, 8, 8))
    everything = torch.cat(list(digits.uint8_batches(1000)))
    assert everything.shape == (1797, 1, 8, 8)
    assert digits.num_classes == 10
    assert (int(everything.min()), int(everything.max())) == (0, 255)
    expected = np.round(bunch.images * 255 / 16)
    assert np.array_equal(everything[:, 0].numpy(), expected)
    # Labels belong to their images.
    images, labels = digits.batch(50, torch.Generator().manual_seed(0))
    target = {image.tobytes(): label for image, label in zip(expected, bunch.target, strict=True)}
    for image, label in zip(to_uint8(images)[:, 0].double().numpy(), labels, strict=True):
        assert target[image.tobytes()] == int(label)


def test_classes_are_sorted_folders_with_their_own_images(class_folders: Path) -> None:
    folder = ImageFolder.open(class_folders, SHAPE)
    assert folder.classes == ["ant", "bird", "cat"]
    everything = torch.cat(list(folder.uint8_batches(3)))
    of_class = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    images, labels = folder.batch(40, torch.Generator().manual_seed(0))
    assert labels is not None
    for image, label in zip(to_uint8(images), labels, strict=True):
        matches = (everything == image).flatten(1).all(1)
        assert of_class[matches].tolist() == [int(label)]


def test_centre_crop_and_resize(tmp_path: Path) -> None:
    wide = np.zeros((6, 18, 3), dtype=np.uint8)
    wide[:, 6:12] = (10, 200, 30)  # only the centre survives the crop
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = next(ImageFolder.open(tmp_path, SHAPE).uint8_batches(1))[0]
    assert pixels.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]  # (C, H, W), RGB
    grey = next(ImageFolder.open(tmp_path, (1, 3, 3)).uint8_batches(1))[0]
    assert grey.shape == (1, 3, 3)


def test_fingerprint_changes_with_the_images(class_folders: Path) -> None:
    before = ImageFolder.open(class_folders, SHAPE).fingerprint
    assert ImageFolder.open(class_folders, SHAPE).fingerprint == before
    assert ImageFolder.open(class_folders, (3, 5, 5)).fingerprint != before
    write_images(class_folders / "cat", 3)
    assert ImageFolder.open(class_folders, SHAPE).fingerprint != before


def test_images_are_read_on_demand(class_folders: Path) -> None:
    folder = ImageFolder.open(class_folders, SHAPE)
    (class_folders / "ant" / "0.png").write_bytes(b"not an image")
    with pytest.raises(ConfigError, match=r"1 of 10 images cannot.*ant/0\.png \(not an image\)"):
        next(folder.uint8_batches(10))


def test_preflight_finds_a_cut_off_image(class_folders: Path) -> None:
    file = class_folders / "cat" / "1.png"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"cat/1\.png \(.*truncated\)\. Replace or remove"):
        ImageFolder.open(class_folders, SHAPE).verify()


def test_image_folder_errors(tmp_path: Path, class_folders: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        ImageFolder.open(tmp_path / "nowhere", SHAPE)
    with pytest.raises(ConfigError, match=r"4.*latents"):
        ImageFolder.open(class_folders, (4, 6, 6))
    (class_folders / "empty").mkdir()
    with pytest.raises(ConfigError, match="'empty' holds no images"):
        ImageFolder.open(class_folders, SHAPE)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="holds no images"):
        ImageFolder.open(tmp_path / "none", SHAPE)


def test_grey_npz_with_the_short_keys(tmp_path: Path) -> None:
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    source = load_source(write_npz(tmp_path / "a.npz", x=images, y=np.array([1, 0])), (1, 4, 4))
    assert torch.equal(next(source.uint8_batches(2))[:, 0], torch.from_numpy(images))
    assert source.num_classes == 2


def test_npz_with_the_keys_of_adm(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    settings = write_npz(tmp_path / "a.npz", arr_0=images, arr_1=np.array([0, 2, 1]))
    source = load_source(settings, SHAPE)
    assert np.array_equal(next(source.uint8_batches(3)).permute(0, 2, 3, 1).numpy(), images)
    assert source.num_classes == 3


IMAGES = np.zeros((4, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "needs the key 'images'.*has pictures"),
        ({"images": IMAGES.astype(np.float32)}, "must be uint8"),
        ({"images": IMAGES[:, :5]}, r"wants images \(N, 6, 6, 3\).*\(4, 5, 6, 3\)"),
        ({"images": IMAGES[:0]}, "wants images"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "wants images"),
        ({"images": IMAGES, "labels": np.arange(3)}, "must be 4 integers"),
        ({"images": IMAGES, "labels": np.arange(4.0)}, "must be 4 integers"),
        ({"images": IMAGES, "labels": np.arange(4) - 1}, "start at 0"),
        ({"images": np.array([{}, {}], dtype=object)}, "cannot be read as npz"),
        ({"images": IMAGES, "labels": np.full(4, 2**64 - 1, np.uint64)}, f"one is {2**64 - 1}"),
        ({"images": IMAGES, "labels": np.full(4, 10**12)}, f"start at 0, but one is {10**12}"),
        ({"images": IMAGES, "labels": np.arange(4) > 1}, "must be 4 integers.*bool"),
        ({"images": IMAGES, "arr_0": IMAGES}, "either images or arr_0, not both"),
        ({"x": IMAGES, "labels": np.arange(4), "y": np.arange(4)}, "either labels or y"),
    ],
)
def test_npz_errors(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_source(write_npz(tmp_path / "a.npz", **arrays), SHAPE)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    settings = write_npz(path, images=IMAGES)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="cannot be read as npz"):
        load_source(settings, SHAPE)
    np.savez_compressed(path, images=np.arange(4 * 108, dtype=np.uint8).reshape(IMAGES.shape))
    content = bytearray(path.read_bytes())
    content[80:120] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as npz"):
        load_source(settings, SHAPE)
    path.unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        load_source(settings, SHAPE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", "0 1 2")
        archive.writestr("a.npy", b"\x93NUMPY")
    with pytest.raises(ConfigError, match="images is no array"):
        load_source(settings, SHAPE)
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000, 6, 6, 3), }"
    huge = b"\x93NUMPY\x01\x00v\x00" + header.ljust(117).encode() + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", huge)
    with pytest.raises(ConfigError, match="does not fit into memory"):
        load_source(settings, SHAPE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!doctype html>", "a web page"),
        (b"", "empty"),
        (b"\x1f\x8b" + bytes(9), "a gzip file"),
    ],
)
def test_what_is_no_npz_is_called_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    settings = DataSettings(source="npz", path=str(tmp_path / "a.npz"))
    with pytest.raises(ConfigError, match=f"cannot be read as npz: it is {said}"):
        load_source(settings, SHAPE)
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(ConfigError, match="is a single array"):
        load_source(DataSettings(source="npz", path=str(tmp_path / "a.npy")), SHAPE)


def test_labels_without_images_are_said(tmp_path: Path) -> None:
    settings = write_npz(tmp_path / "a.npz", images=IMAGES, labels=np.array([0, 1, 4, 4]))
    for flip in (False, True):
        source = load_source(replace(settings, flip=flip), SHAPE)
        (note,) = check_labels_fit(source, SimpleNamespace(num_classes=5))  # type: ignore[arg-type]
        assert "No image has the label 2 (nor 1 more)" in note


def test_wrong_shape_or_missing_path() -> None:
    with pytest.raises(ConfigError, match="set in_channels: 1 and input_size: 8"):
        load_source(DataSettings(source="digits"), (3, 8, 8))
    with pytest.raises(ConfigError, match=r"needs data\.path"):
        load_source(DataSettings(source="npz"), SHAPE)


class _Classes:
    num_exit_blocks, in_shape = 1, SHAPE

    def __init__(self, num_classes: int | None) -> None:
        self.num_classes = num_classes


def test_labels_must_fit_the_backbone(tmp_path: Path, class_folders: Path) -> None:
    labelled = ImageFolder.open(class_folders, SHAPE)
    check_labels_fit(labelled, _Classes(3))  # type: ignore[arg-type]
    check_labels_fit(labelled, _Classes(None))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="3 classes, but the backbone only 2"):
        check_labels_fit(labelled, _Classes(2))  # type: ignore[arg-type]
    unlabelled = ImageFolder.open(class_folders / "ant", SHAPE)
    with pytest.raises(ConfigError, match="the data has no labels"):
        check_labels_fit(unlabelled, _Classes(3))  # type: ignore[arg-type]


def test_pixels_round_trip_and_clamp() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_a_reference_beside_the_training_images(tmp_path: Path, class_folders: Path) -> None:
    write_images(tmp_path / "new", 4)
    folder = DataSettings(
        source="image_folder", path=str(class_folders), reference_path=str(tmp_path / "new")
    )
    source = load_source(folder, SHAPE)
    reference = load_reference_source(folder, source, SHAPE)
    assert (source.num_images, reference.num_images) == (10, 4)
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    plain = write_npz(tmp_path / "a.npz", images=images)
    new = write_npz(tmp_path / "b.npz", images=images[:3])
    both = DataSettings(source="npz", path=plain.path, reference_path=new.path, flip=True)
    reference = load_reference_source(both, load_source(both, SHAPE), SHAPE)
    assert torch.equal(
        next(reference.uint8_batches(3)), torch.from_numpy(images[:3]).permute(0, 3, 1, 2)
    )
    assert load_reference_source(plain, source, SHAPE) is source


def test_a_wrong_reference_is_named_by_its_own_key(tmp_path: Path) -> None:
    images = np.zeros((5, 6, 6, 3), dtype=np.uint8)
    plain = write_npz(tmp_path / "a.npz", images=images)
    new = write_npz(tmp_path / "b.npz", images=images[:, :5])
    both = DataSettings(source="npz", path=plain.path, reference_path=new.path)
    with pytest.raises(ConfigError, match=r"data\.reference_path .*b\.npz: the backbone wants"):
        load_reference_source(both, load_source(plain, SHAPE), SHAPE)


def test_digits_have_no_other_reference() -> None:
    source = load_source(DataSettings(source="digits"), (1, 8, 8))
    test = DataSettings(source="digits", reference_split="test")
    with pytest.raises(ConfigError, match="digits has none"):
        load_reference_source(test, source, (1, 8, 8))
    path = DataSettings(source="digits", reference_path="x")
    with pytest.raises(ConfigError, match=r"reference_path is for image_folder, npz and latents"):
        load_reference_source(path, source, (1, 8, 8))
