from collections.abc import Iterable
from pathlib import Path

import pytest

from schedsearch.config.data_rules import (
    KNOWN_SHAPES,
    data_files,
    data_keys,
    extractor_files,
    extractors,
    image_shape,
)
from schedsearch.files.problems import Mistake
from schedsearch.settings import BackboneSettings, DataSettings, EvaluationSettings

GREY_28 = BackboneSettings(
    family="uvit",
    config={"img_size": 28, "in_chans": 1, "patch_size": 7, "num_classes": 11, "null_class": True},
)
RGB_32 = BackboneSettings(name="U-ViT-S/2", config={"img_size": 32})
LATENT = BackboneSettings(name="DiT-XL/2")
FOREIGN = BackboneSettings(family="my_lab.nets:Net")


def sentences(mistakes: Iterable[Mistake]) -> list[str]:
    return [
        f"{key}: {reason}; {remedy}".removesuffix("; None") for key, reason, remedy in mistakes
    ]


def problems_of_data(check_disk: bool = True, **keys: object) -> list[str]:
    data = DataSettings(**keys)  # type: ignore[arg-type]
    return sentences([*data_keys(data), *(data_files(data) if check_disk else ())])


def problems_of_features(
    data: DataSettings | None, backbone: BackboneSettings | None = None, **keys: object
) -> list[str]:
    return sentences(extractors(EvaluationSettings(**keys), data, backbone))  # type: ignore[arg-type]


def problems_of_shape(backbone: BackboneSettings, source: str) -> list[str]:
    return sentences(image_shape(backbone, DataSettings(source=source)))  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["mnist", "cifar10", "image_folder", "npz", "latents"])
def test_paths_are_needed_and_must_exist(tmp_path: Path, source: str) -> None:
    (missing,) = (p for p in problems_of_data(source=source) if "vae" not in p)
    assert missing == f"data: source {source} needs a path; add data.path"
    keys = {"source": source, "path": str(tmp_path / "gone")}
    if source == "latents":
        keys["vae"] = str(tmp_path / "vae")
    found = problems_of_data(**keys)
    assert any(p.startswith("data.path: ") and keys["path"] in p for p in found)
    assert problems_of_data(check_disk=False, **keys) == []


def test_files_and_folders_that_exist(tmp_path: Path) -> None:
    (tmp_path / "file.npz").touch()
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").touch()
    folder, file, vae = str(tmp_path), str(tmp_path / "file.npz"), str(tmp_path / "vae")
    for source in ("mnist", "cifar10", "image_folder"):
        assert problems_of_data(source=source, path=folder) == []
        (problem,) = problems_of_data(source=source, path=file)
        assert problem.startswith("data.path: ")
        assert "file.npz" in problem
    assert problems_of_data(source="npz", path=file) == []
    assert "is a folder, not a file" in problems_of_data(source="npz", path=folder)[0]
    for path in (file, folder):
        assert problems_of_data(source="latents", path=path, vae=vae) == []


def test_an_autoencoder_belongs_to_latents(tmp_path: Path) -> None:
    folder, vae = str(tmp_path), str(tmp_path / "vae")
    (problem,) = problems_of_data(source="npz", path="x", vae=vae, check_disk=False)
    assert problem == "data.vae: only latents are decoded, got source npz; remove it"
    (problem,) = problems_of_data(source="latents", path=folder)
    assert problem.startswith("data.vae: latents need the autoencoder")
    (problem,) = problems_of_data(source="latents", path=folder, vae=vae)
    assert "config.json does not exist" in problem
    assert "subfolder vae" in problem


@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_sources_with_test_images(source: str) -> None:
    keys = {"source": source, "path": "x"}
    assert problems_of_data(check_disk=False, reference_split="test", **keys) == []
    (problem,) = problems_of_data(check_disk=False, reference_path="y", **keys)
    assert problem == (
        f"data.reference_path: {source} brings its test images along; set "
        "data.reference_split: test instead"
    )


@pytest.mark.parametrize("source", ["image_folder", "npz", "latents"])
def test_other_sources_name_their_reference(tmp_path: Path, source: str) -> None:
    keys = {"source": source, "path": "x"} | ({"vae": "v"} if source == "latents" else {})
    (problem,) = problems_of_data(check_disk=False, reference_split="test", **keys)
    assert problem == (
        f"data.reference_split: only mnist and cifar10 have test images, got source {source}; "
        "name them in data.reference_path"
    )
    assert problems_of_data(check_disk=False, reference_path="y", **keys) == []
    (problem,) = problems_of_data(check_disk=False, reference_path="x", **keys)
    assert problem.startswith("data.reference_path: these are the training images")
    gone = problems_of_data(reference_path=str(tmp_path / "gone"), **keys)
    assert any(p.startswith("data.reference_path: ") and "gone" in p for p in gone)


def test_digits_have_no_other_images() -> None:
    (problem,) = problems_of_data(source="digits", reference_split="test")
    assert problem.endswith("got source digits; remove the key")
    (problem,) = problems_of_data(source="digits", reference_path="x")
    assert problem.startswith("data.reference_path: digits are one set of images")


@pytest.mark.parametrize("source", ["digits", "mnist", "latents"])
def test_sources_without_a_mirror_image(source: str) -> None:
    keys = {} if source == "digits" else {"path": "x"}
    found = problems_of_data(check_disk=False, source=source, flip=True, **keys)
    (problem,) = (p for p in found if p.startswith("data.flip: "))
    assert problem.startswith(f"data.flip: {source} cannot be mirrored")


def test_the_others_may_be_mirrored_and_folders_may_skip() -> None:
    for source in ("cifar10", "image_folder", "npz"):
        keys = {"source": source, "path": "x", "flip": True}
        assert problems_of_data(check_disk=False, **keys) == []
    keys = {"source": "image_folder", "path": "x", "max_damaged": 3}
    assert problems_of_data(check_disk=False, **keys) == []
    (problem,) = problems_of_data(source="digits", max_damaged=3)
    assert problem.startswith("data.max_damaged: only image_folder skips images, got 3")


def test_known_sources_fit_their_networks() -> None:
    assert problems_of_shape(GREY_28, "mnist") == []
    assert problems_of_shape(RGB_32, "cifar10") == []  # unconditional
    for source in KNOWN_SHAPES:
        assert problems_of_shape(FOREIGN, source) == []


def test_known_sources_that_do_not_fit() -> None:
    assert problems_of_shape(RGB_32, "mnist") == [
        "backbone.config.in_chans: mnist images are 1 x 28 x 28, so in_chans must be 1, got 3",
        "backbone.config.img_size: mnist images are 1 x 28 x 28, so img_size must be 28, got 32",
    ]
    channels, classes = problems_of_shape(LATENT, "cifar10")
    assert "in_channels must be 3, got 4" in channels
    assert "cifar10 has 10 classes, got 1000; set it to 10" in classes


def test_class_rows_count_the_row_of_no_class() -> None:
    config = {**GREY_28.config, "num_classes": 10}  # 9 classes and "no class"
    (problem,) = problems_of_shape(BackboneSettings(family="uvit", config=config), "mnist")
    assert "mnist has 10 classes, got 9; set it to 11" in problem


def test_image_folders_have_no_latents() -> None:
    (problem,) = problems_of_shape(LATENT, "image_folder")
    assert problem.startswith("data.source: image_folder gives 1 or 3 channels")
    assert problems_of_shape(GREY_28, "image_folder") == []
    assert problems_of_shape(LATENT, "latents") == []


MNIST = DataSettings(source="mnist", path="x")
FOLDER = DataSettings(source="image_folder", path="x")


@pytest.mark.parametrize(
    ("data", "backbone", "shown"),
    [
        (DataSettings(source="digits"), None, "1 x 8 x 8"),
        (DataSettings(source="cifar10", path="x"), GREY_28, "3 x 32 x 32"),
        (FOLDER, RGB_32, "3 x 32 x 32"),
        (DataSettings(source="latents", path="x"), LATENT, "decoded latents"),
    ],
)
def test_lenet_sees_only_what_looks_like_mnist(data, backbone, shown) -> None:
    (problem,) = problems_of_features(data, backbone, features="lenet", features_path="x")
    assert problem.startswith("evaluation.features: lenet features were trained on MNIST")
    assert f"but the images are {shown}" in problem


@pytest.mark.parametrize(
    ("data", "backbone"),
    [(MNIST, None), (MNIST, GREY_28), (FOLDER, GREY_28), (FOLDER, FOREIGN), (FOLDER, None)],
)
def test_lenet_where_it_fits_or_may_fit(data, backbone) -> None:
    assert problems_of_features(data, backbone, features="lenet", features_path="x") == []


def test_lenet_needs_a_file(tmp_path: Path) -> None:
    (problem,) = problems_of_features(MNIST, features="lenet")
    assert problem.startswith("evaluation.features: lenet needs evaluation.features_path")
    evaluation = EvaluationSettings(features="lenet", features_path=str(tmp_path))
    (problem,) = sentences(extractor_files(evaluation))
    assert problem.startswith("evaluation.features_path: ")
    assert "is a folder, not a file" in problem


def test_unknown_features_list_the_known_ones() -> None:
    (problem,) = problems_of_features(MNIST, features="lenett")
    assert "did you mean 'lenet'?" in problem
    (problem,) = problems_of_features(MNIST, features="zzz")
    assert "known are digits, digits_mlp, mnist_cnn, tiles_cnn, tiles_resnet, lenet" in problem
