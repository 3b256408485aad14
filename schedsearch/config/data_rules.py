"""Rules for data and features: files that exist, shapes and classes that fit."""

from __future__ import annotations

import re

from schedsearch.config.backbone_rules import input_shape_of, known_arguments
from schedsearch.config.import_strings import looks_like_import_string, why_not_importable
from schedsearch.config.paths import FROM_FOLDER, Paths, why_not_a_file
from schedsearch.files.problems import Findings, nearest, shown
from schedsearch.settings import BackboneSettings, DataSettings, EvaluationSettings

KNOWN_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
"""Shape (C, H, W) of the data sets that have one."""

KNOWN_CLASSES = 10
"""Classes of each of them."""

LENET_SHAPE = (1, 28, 28)
_GREY = "1 x 28 x 28"

NO_FLIP = {
    "digits": "a mirrored digit is not a digit",
    "mnist": "a mirrored digit is not a digit",
    "latents": "a mirrored latent does not decode to a mirrored image",
}
"""Sources that are not mirrored, and why."""

DIGEST_SUFFIX = re.compile(r"#sha256=[0-9a-fA-F]{64}\Z")
"""After a features_path: the digest of a file that is trusted instead of the pinned one."""

FEATURES = ("digits", "digits_mlp", "mnist_cnn", "lenet", "inception")
"""Feature extractors that need no import string."""


def check_data(data: DataSettings, findings: Findings, paths: Paths) -> None:
    """Check that the source has the keys it needs and no others, and that its files exist."""
    if data.flip and (reason := NO_FLIP.get(data.source)) is not None:
        remedy = "remove the key"
        if data.source == "latents":
            remedy += ", and encode the mirrored images too"
        findings.add(("data", "flip"), f"{data.source} cannot be mirrored: {reason}", remedy)
    if data.max_damaged and data.source != "image_folder":
        findings.add(
            ("data", "max_damaged"),
            f"only image_folder skips images, got {data.max_damaged} with {data.source}",
            "remove the key",
        )
    _check_path(data, findings, paths)
    _check_vae(data, findings, paths)


def _check_path(data: DataSettings, findings: Findings, paths: Paths) -> None:
    at = ("data", "path")
    if data.source == "digits":
        if data.path is not None:
            findings.add(at, "digits ships with scikit-learn and has no path", "remove the key")
        return
    if data.path is None:
        findings.add(("data",), f"source {data.source} needs a path", "add data.path")
        return
    if not paths.check_disk:
        return
    path = paths.absolute(at, data.path)
    if data.source == "npz":
        if (reason := why_not_a_file(path)) is not None:
            findings.add(at, reason, FROM_FOLDER)
    elif data.source == "latents":
        if not path.exists():
            findings.add(at, f"there is no file or folder {path}", FROM_FOLDER)
    elif not path.is_dir():
        findings.add(at, f"the folder {path} does not exist", FROM_FOLDER)


def _check_vae(data: DataSettings, findings: Findings, paths: Paths) -> None:
    at = ("data", "vae")
    if data.source != "latents":
        if data.vae is not None:
            findings.add(at, f"only latents are decoded, got source {data.source}", "remove it")
        return
    if data.vae is None:
        remedy = "set it to the folder of the diffusers AutoencoderKL that made the latents"
        findings.add(at, "latents need the autoencoder that decodes them", remedy)
    elif paths.check_disk:
        config = paths.absolute(at, data.vae) / "config.json"
        if (reason := why_not_a_file(config)) is not None:
            remedy = (
                "name the folder of a diffusers AutoencoderKL, in a pipeline its subfolder vae"
            )
            findings.add(at, reason, remedy)


def check_features(
    evaluation: EvaluationSettings,
    data: DataSettings | None,
    findings: Findings,
    paths: Paths,
    backbone: BackboneSettings | None = None,
) -> None:
    """Check that extractor and auditor are known, fit the data and find their weights.

    Args:
        evaluation: Names the extractors.
        data: The images; None if the section has mistakes of its own.
        findings: Receives the mistakes.
        paths: Where relative paths start.
        backbone: Sets the size of images that have none of their own; None if unknown.
    """
    _check_extractor("features", evaluation, data, findings, paths, backbone)
    if evaluation.auditor is None:
        if evaluation.auditor_path is not None:
            findings.add(
                ("evaluation", "auditor_path"),
                "there is no auditor whose weights these are",
                "name it in evaluation.auditor, or remove the key",
            )
        return
    _check_extractor("auditor", evaluation, data, findings, paths, backbone)
    same_files = evaluation.auditor_path == evaluation.features_path
    if evaluation.auditor == evaluation.features and same_files:
        findings.add(
            ("evaluation", "auditor"),
            f"the auditor must be independent of evaluation.features, got "
            f"{shown(evaluation.auditor)} for both",
            "name another extractor, or remove the key",
        )


def _check_extractor(
    key: str,
    evaluation: EvaluationSettings,
    data: DataSettings | None,
    findings: Findings,
    paths: Paths,
    backbone: BackboneSettings | None,
) -> None:
    """One extractor, ``features`` or ``auditor``, and the path that goes with it."""
    path_key = f"{key}_path"
    features: str = getattr(evaluation, key)
    weights: str | None = getattr(evaluation, path_key)
    at = ("evaluation", key)
    if features in ("digits", "digits_mlp"):
        if data is not None and data.source != "digits":
            findings.add(
                at,
                f"{features} features were trained on digits, but data.source is {data.source}",
                f"use inception with {path_key}, or package.module:Class",
            )
    elif features in ("lenet", "mnist_cnn"):
        _check_mnist(key, evaluation, data, backbone, findings)
    elif features == "inception":
        if weights is None:
            findings.add(
                at,
                f"inception needs evaluation.{path_key}",
                "weights are never downloaded; see the README for where to get them",
            )
    elif not looks_like_import_string(features):
        remedy = nearest(features, FEATURES)
        known = f"known are {', '.join(FEATURES)}, or write package.module:Class"
        findings.add(at, f"unknown features {shown(features)}", remedy or known)
    elif paths.check_disk and (broken := why_not_importable(features)) is not None:
        findings.add(at, *broken)
    if weights is not None and paths.check_disk:
        at = ("evaluation", path_key)
        path = paths.absolute(at, DIGEST_SUFFIX.sub("", weights))
        # An extractor may take a folder; inception finds its file in it.
        may_be_folder = features != "lenet" and path.is_dir()
        if not may_be_folder and (reason := why_not_a_file(path)) is not None:
            findings.add(at, reason, FROM_FOLDER)


def _check_mnist(
    key: str,
    evaluation: EvaluationSettings,
    data: DataSettings | None,
    backbone: BackboneSettings | None,
    findings: Findings,
) -> None:
    """They see 28x28 grey images only."""
    at, features = ("evaluation", key), getattr(evaluation, key)
    if data is not None:
        shape = KNOWN_SHAPES.get(data.source)
        if shape is None and backbone is not None and data.source != "latents":
            shape = input_shape_of(backbone)
        if data.source == "latents" or shape not in (None, LENET_SHAPE):
            images = "decoded latents" if shape is None else " x ".join(map(str, shape))
            findings.add(
                at,
                f"{features} features were trained on MNIST, {_GREY}, but the images are {images}",
                f"use inception with {key}_path, or package.module:Class",
            )
            return
    if features == "lenet" and getattr(evaluation, f"{key}_path") is None:
        findings.add(
            at,
            f"lenet needs evaluation.{key}_path",
            "name the state dict of a LeNet-5; weights are never downloaded",
        )


def check_shape(backbone: BackboneSettings, data: DataSettings, findings: Findings) -> None:
    """Check that the images of a known source fit the network."""
    arguments = known_arguments(backbone)
    if arguments is None:
        return
    if data.source == "image_folder" and arguments.input_shape[0] not in (1, 3):
        findings.add(
            ("data", "source"),
            f"image_folder gives 1 or 3 channels, but the backbone wants "
            f"{arguments.input_shape[0]}",
            "a model on latents needs source: latents",
        )
    if data.source not in KNOWN_SHAPES:
        return
    wanted = KNOWN_SHAPES[data.source]
    # One side: the networks that ship take squares.
    for name, found, value in zip(
        arguments.shape_keys, arguments.input_shape, wanted, strict=False
    ):
        if found != value:
            findings.add(
                ("backbone", "config", name),
                f"{data.source} images are {' x '.join(map(str, wanted))}, so {name} must be "
                f"{value}, got {found}",
            )
    if arguments.real_classes not in (0, KNOWN_CLASSES):
        rows = KNOWN_CLASSES + arguments.num_classes - arguments.real_classes
        findings.add(
            ("backbone", "config", "num_classes"),
            f"{data.source} has {KNOWN_CLASSES} classes, got {arguments.real_classes}",
            f"set it to {rows}, or to 0 for an unconditional model",
        )
