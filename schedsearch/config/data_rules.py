"""Rules for data and features: files that exist, shapes and classes that fit."""

from __future__ import annotations

import re

from schedsearch.config.backbone_rules import dit_arguments
from schedsearch.config.import_strings import looks_like_import_string, why_not_importable
from schedsearch.config.paths import Paths, why_not_a_file
from schedsearch.config.problems import Findings, nearest, shown
from schedsearch.settings import BackboneSettings, DataSettings, EvaluationSettings

DIGITS_SHAPE = {"input_size": 8, "in_channels": 1}
DIGITS_CLASSES = 10

DIGEST_SUFFIX = re.compile(r"#sha256=[0-9a-fA-F]{64}\Z")
"""After a features_path: the digest of a file that is trusted instead of the pinned one."""

FEATURES = ("digits", "inception")
"""Feature extractors that need no import string."""


def check_data(data: DataSettings, findings: Findings, paths: Paths) -> None:
    """Check that the source has a path where it needs one, and that it exists."""
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
    path, remedy = paths.absolute(at, data.path), "a relative path counts from the file's folder"
    if data.source == "npz":
        if (reason := why_not_a_file(path)) is not None:
            findings.add(at, reason, remedy)
    elif not path.is_dir():
        findings.add(at, f"the folder {path} does not exist", remedy)


def check_features(
    evaluation: EvaluationSettings, data: DataSettings | None, findings: Findings, paths: Paths
) -> None:
    """Check that the extractor is known, fits the data and finds its weights."""
    features, at = evaluation.features, ("evaluation", "features")
    if features == "digits":
        if data is not None and data.source != "digits":
            findings.add(
                at,
                f"digits features were trained on digits, but data.source is {data.source}",
                "use inception with features_path, or package.module:Class",
            )
    elif features == "inception":
        if evaluation.features_path is None:
            findings.add(
                at,
                "inception needs evaluation.features_path",
                "weights are never downloaded; see the README for where to get them",
            )
    elif not looks_like_import_string(features):
        remedy = nearest(features, FEATURES)
        known = "known are digits and inception, or write package.module:Class"
        findings.add(at, f"unknown features {shown(features)}", remedy or known)
    elif paths.check_disk and (broken := why_not_importable(features)) is not None:
        findings.add(at, *broken)
    if evaluation.features_path is not None and paths.check_disk:
        at = ("evaluation", "features_path")
        path = paths.absolute(at, DIGEST_SUFFIX.sub("", evaluation.features_path))
        # An extractor may take a folder; inception finds its file in it.
        if not path.is_dir() and (reason := why_not_a_file(path)) is not None:
            findings.add(at, reason, "a relative path counts from the folder of the file")


def check_shape(backbone: BackboneSettings, data: DataSettings, findings: Findings) -> None:
    """Check that the images of a known source fit the network."""
    arguments = dit_arguments(backbone)
    if arguments is None or data.source != "digits":
        return
    for name, value in DIGITS_SHAPE.items():
        if (found := getattr(arguments, name)) != value:
            findings.add(
                ("backbone", "config", name),
                f"digits images are 1 x 8 x 8, so {name} must be {value}, got {found}",
            )
    if arguments.num_classes not in (0, DIGITS_CLASSES):
        findings.add(
            ("backbone", "config", "num_classes"),
            f"digits has {DIGITS_CLASSES} classes, got {arguments.num_classes}",
            f"set it to {DIGITS_CLASSES}, or to 0 for an unconditional model",
        )
