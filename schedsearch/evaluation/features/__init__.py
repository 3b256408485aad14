"""Feature extractors, which turn images into the vectors of FID and KID.

An extractor with its weights file belongs here, the distances in ``frechet.py`` and ``kid.py``
above. Read first: :class:`FeatureExtractor` below, then ``packaged.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from schedsearch.exceptions import ConfigError, SchedSearchError
from schedsearch.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_REQUIRED = ("name", "dim", "sha256")


@runtime_checkable
class FeatureExtractor(Protocol):
    """A frozen network whose features FID and KID compare.

    A custom class is created as ``Class(features_path, device)``.
    """

    name: str
    """Name shown to people, for example ``digits CNN``."""
    dim: int
    """Number of features D."""
    sha256: str
    """Digest of the weights; two FIDs are comparable only if it is equal."""

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features: (N, C, H, W) uint8 -> (N, D) float32, on any device."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """An extractor that also classifies, which gives a sanity check of samples."""

    def classify(self, images: Tensor) -> Tensor:
        """Compute class logits: (N, C, H, W) uint8 -> (N, num_classes) float32."""
        ...


def build_extractor(
    features: str, features_path: str | None, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """Build the extractor that a search space names.

    Args:
        features: ``digits``, ``digits_mlp``, ``mnist_cnn``, ``tiles_cnn``, ``tiles_resnet``,
            ``lenet``, ``inception`` or ``package.module:Class``. ``evaluation.auditor`` takes
            the same names.
        features_path: Weights of ``lenet`` and ``inception`` (see :mod:`.lenet` and
            :mod:`.inception`), or the argument of a custom class. The others ship with their
            weights.
        device: Device of the network.

    Raises:
        ConfigError: If the name is unknown, or the weights file is missing.
        CheckpointError: If the weights are damaged or not the pinned ones.
    """
    import torch

    device = torch.device(device)
    if features == "digits":
        from schedsearch.evaluation.features import digits_cnn

        return digits_cnn.load(device)
    if features == "digits_mlp":
        from schedsearch.evaluation.features import digits_mlp

        return digits_mlp.load(device)
    if features == "mnist_cnn":
        from schedsearch.evaluation.features import mnist_cnn

        return mnist_cnn.load(device)
    if features == "tiles_cnn":
        from schedsearch.evaluation.features import tiles_cnn

        return tiles_cnn.load(device)
    if features == "tiles_resnet":
        from schedsearch.evaluation.features import tiles_resnet

        return tiles_resnet.load(device)
    if features == "lenet":
        from schedsearch.evaluation.features.lenet import LeNetExtractor

        return LeNetExtractor.load(features_path, device)
    if features == "inception":
        from schedsearch.evaluation.features.inception import InceptionExtractor

        return InceptionExtractor.load(features_path, device)
    return _build_custom(features, features_path, device)


def iterate_batches(images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Split images, (N, C, H, W), into batches; the last one may be smaller."""
    for start in range(0, images.shape[0], batch_size):
        yield images[start : start + batch_size]


def extract_features(extractor: FeatureExtractor, batches: Iterable[Tensor]) -> Tensor:
    """Compute the features of all batches of uint8 images, (N, D) float32 on the CPU."""
    import torch

    with torch.inference_mode():
        return torch.cat([extractor(batch).float().cpu() for batch in batches])


def check_extractor(extractor: FeatureExtractor, images: Tensor) -> None:
    """Try an extractor on some real images.

    Args:
        extractor: The extractor.
        images: Pixels, (n, C, H, W) uint8.

    Raises:
        ConfigError: If it fails, or its features have another shape or are not finite.
    """
    try:
        found = extract_features(extractor, [images])
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, SchedSearchError):
            raise
        raise ConfigError(
            f"The feature extractor {extractor.name} fails on images of the shape "
            f"{tuple(images.shape)}: {type(error).__name__}: {error}."
        ) from error
    if tuple(found.shape) != (len(images), extractor.dim) or not bool(found.isfinite().all()):
        raise ConfigError(
            f"The feature extractor {extractor.name} must give {extractor.dim} finite numbers per "
            f"image, but gives the shape {tuple(found.shape)}, "
            f"{int((~found.isfinite()).sum())} of them not finite. Check its class and weights."
        )


def _build_custom(features: str, path: str | None, device: torch.device) -> FeatureExtractor:
    module_name, _, class_name = features.partition(":")
    if not module_name or not class_name:
        raise ConfigError(
            f"Unknown features '{features}'. Use 'digits', 'digits_mlp', 'mnist_cnn', 'lenet', "
            "'inception' or 'package.module:Class'."
        )
    try:
        made = getattr(importlib.import_module(module_name), class_name)(path, device)
    except Exception as error:  # code of the user
        raise ConfigError(
            f"Cannot create the feature extractor '{features}' as {class_name}(features_path, "
            f"device): {type(error).__name__}: {error}."
        ) from error
    missing = [name for name in _REQUIRED if not hasattr(made, name)]
    if missing or not isinstance(made, FeatureExtractor):
        wanted = ", ".join(missing) or "__call__"
        raise ConfigError(f"The feature extractor '{features}' lacks {wanted}.")
    return made
