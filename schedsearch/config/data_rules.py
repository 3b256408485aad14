"""Rules for data and features: keys, files, shapes and classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from schedsearch.config.backbone_rules import known_arguments
from schedsearch.config.paths import is_import_string, why_not_importable
from schedsearch.files.content import why_not_a_file, why_not_a_folder
from schedsearch.files.problems import FROM_FOLDER, Mistake, nearest, shown
from schedsearch.settings import BackboneSettings, DataSettings, EvaluationSettings

KNOWN_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
"""Shape (C, H, W) of the data sets that have one."""

KNOWN_CLASSES = 10
"""Classes of each of them."""

NO_FLIP = {
    "digits": "a mirrored digit is not a digit",
    "mnist": "a mirrored digit is not a digit",
    "latents": "a mirrored latent does not decode to a mirrored image",
}
"""Sources that are not mirrored, and why."""

WITH_TEST_SPLIT = ("mnist", "cifar10")
"""Sources that come with test images."""

FEATURES = (
    "digits",
    "digits_mlp",
    "mnist_cnn",
    "tiles_cnn",
    "tiles_resnet",
    "lenet",
    "inception",
)
"""Feature extractors that need no import string."""

_DIGEST = re.compile(r"#sha256=[0-9a-fA-F]{64}\Z")  # the user trusts another file than ours


def data_keys(data: DataSettings) -> Iterator[Mistake]:
    """The source has the keys that it needs and no others."""
    # NOTE: Not a validator: ``sample`` reads the section for its autoencoder alone.
    source = data.source
    if data.flip and (why := NO_FLIP.get(source)) is not None:
        too = ", and encode the mirrored images too" if source == "latents" else ""
        yield "data.flip", f"{source} cannot be mirrored: {why}", f"remove the key{too}"
    if data.max_damaged and source != "image_folder":
        reason = f"only image_folder skips images, got {data.max_damaged} with {source}"
        yield "data.max_damaged", reason, "remove the key"
    if source == "digits" and data.path is not None:
        yield "data.path", "digits ships with scikit-learn and has no path", "remove the key"
    if source != "digits" and data.path is None:
        yield "data", f"source {source} needs a path", "add data.path"
    if source != "latents" and data.vae is not None:
        yield "data.vae", f"only latents are decoded, got source {source}", "remove it"
    if source == "latents" and data.vae is None:
        remedy = "set it to the folder of the diffusers AutoencoderKL that made the latents"
        yield "data.vae", "latents need the autoencoder that decodes them", remedy
    yield from _reference_keys(data)


def _reference_keys(data: DataSettings) -> Iterator[Mistake]:
    """The source can give the images that FID compares with."""
    source = data.source
    if data.reference_split == "test" and source not in WITH_TEST_SPLIT:
        reason = f"only {' and '.join(WITH_TEST_SPLIT)} have test images, got source {source}"
        other = "remove the key" if source == "digits" else "name them in data.reference_path"
        yield "data.reference_split", reason, other
    if data.reference_path is None:
        return
    if source in WITH_TEST_SPLIT:
        reason = f"{source} brings its test images along"
        yield "data.reference_path", reason, "set data.reference_split: test instead"
    elif source == "digits":
        reason = "digits are one set of images, and the shipped network was trained on all"
        yield "data.reference_path", reason, "remove the key, or use source npz for both paths"
    elif data.reference_path == data.path:
        reason = "these are the training images"
        yield "data.reference_path", reason, "name others, or remove the key"


def data_files(data: DataSettings) -> Iterator[Mistake]:
    """The files and folders of the source exist."""
    for key, text in (("path", data.path), ("reference_path", data.reference_path)):
        if text is None or data.source == "digits":
            continue
        path = Path(text)
        if data.source == "npz":
            reason = why_not_a_file(path)
        elif data.source == "latents":
            reason = None if path.exists() else f"there is no file or folder {path}"
        else:
            reason = why_not_a_folder(path)
        if reason is not None:
            yield f"data.{key}", reason, FROM_FOLDER
    if data.source != "latents" or data.vae is None:
        return
    if (reason := why_not_a_file(Path(data.vae, "config.json"))) is not None:
        remedy = "name the folder of an AutoencoderKL, in a pipeline its subfolder vae"
        yield "data.vae", reason, remedy


def extractors(
    evaluation: EvaluationSettings,
    data: DataSettings | None = None,
    backbone: BackboneSettings | None = None,
) -> Iterator[Mistake]:
    """Features and auditor are known, fit the data, and name the weights they need."""
    for key, name, weights in _extractors(evaluation):
        at, path_key = f"evaluation.{key}", f"{key}_path"
        other = f"use inception with {path_key}, or package.module:Class"
        images = _images(data, backbone)
        if name in ("digits", "digits_mlp"):
            if data is not None and data.source != "digits":
                reason = (
                    f"{name} features were trained on digits, but data.source is {data.source}"
                )
                yield at, reason, other
        elif name in ("lenet", "mnist_cnn") and images not in (None, "1 x 28 x 28"):
            reason = f"{name} features were trained on MNIST, 1 x 28 x 28, but the images are"
            yield at, f"{reason} {images}", other
        elif name in ("tiles_cnn", "tiles_resnet") and images not in (None, "3 x 32 x 32"):
            reason = f"{name} features were trained on tiles, 3 x 32 x 32, but the images are"
            yield at, f"{reason} {images}", other
        elif name in ("lenet", "inception") and weights is None:
            reason = f"{name} needs evaluation.{path_key}"
            yield at, reason, "weights are never downloaded; see the README for where to get them"
        elif name not in FEATURES and not is_import_string(name):
            known = f"known are {', '.join(FEATURES)}, or write package.module:Class"
            yield at, f"unknown features {shown(name)}", nearest(name, FEATURES) or known


def extractor_files(evaluation: EvaluationSettings) -> Iterator[Mistake]:
    """Modules and weights of features and auditor exist."""
    for key, name, weights in _extractors(evaluation):
        if is_import_string(name) and (broken := why_not_importable(name)) is not None:
            yield f"evaluation.{key}", *broken
        if weights is not None:
            path = Path(_DIGEST.sub("", weights))
            # NOTE: An extractor may take a folder; inception finds its file in it.
            may_be_folder = name != "lenet" and path.is_dir()
            if not may_be_folder and (reason := why_not_a_file(path)) is not None:
                yield f"evaluation.{key}_path", reason, FROM_FOLDER


def image_shape(backbone: BackboneSettings, data: DataSettings) -> Iterator[Mistake]:
    """The images of a known source fit the network."""
    arguments = known_arguments(backbone)
    if arguments is None:
        return
    channels = arguments.input_shape[0]
    if data.source == "image_folder" and channels not in (1, 3):
        reason = f"image_folder gives 1 or 3 channels, but the backbone wants {channels}"
        yield "data.source", reason, "a model on latents needs source: latents"
    if (wanted := KNOWN_SHAPES.get(data.source)) is None:
        return
    # NOTE: The networks that ship take squares, so one side is enough.
    for name, value in zip(arguments.shape_keys, wanted, strict=False):
        if (found := getattr(arguments, name)) != value:
            images = f"{data.source} images are {_by(wanted)}"
            yield (
                f"backbone.config.{name}",
                f"{images}, so {name} must be {value}, got {found}",
                None,
            )
    if arguments.real_classes not in (0, KNOWN_CLASSES):
        rows = KNOWN_CLASSES + arguments.num_classes - arguments.real_classes
        reason = f"{data.source} has {KNOWN_CLASSES} classes, got {arguments.real_classes}"
        remedy = f"set it to {rows}, or to 0 for an unconditional model"
        yield "backbone.config.num_classes", reason, remedy


def _extractors(evaluation: EvaluationSettings) -> Iterator[tuple[str, str, str | None]]:
    """Key, name and weights of each extractor."""
    yield "features", evaluation.features, evaluation.features_path
    if evaluation.auditor is not None:
        yield "auditor", evaluation.auditor, evaluation.auditor_path


def _images(data: DataSettings | None, backbone: BackboneSettings | None) -> str | None:
    """The images that an extractor sees, or None if that is not known."""
    if data is None:
        return None
    if data.source == "latents":
        return "decoded latents"
    shape = KNOWN_SHAPES.get(data.source)
    if shape is None and backbone is not None:
        arguments = known_arguments(backbone)
        shape = None if arguments is None else arguments.input_shape
    return None if shape is None else _by(shape)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
