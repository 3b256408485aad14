"""Feature statistics of the real images, cached on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from schedsearch.evaluation.features import FeatureExtractor
from schedsearch.evaluation.frechet import FeatureStatistics, feature_statistics
from schedsearch.evaluation.kid import MAX_FULL
from schedsearch.evaluation.real_images.cached_tensors import (
    identity_digest,
    load_tensors,
    save_tensors,
)

_SCHEMA = "schedsearch.reference/1"
_BATCH = 256
_TENSORS = ("mean", "cov", "features")


class RealImages(Protocol):
    """The part of a data source that a reference and neighbours use."""

    @property
    def num_images(self) -> int:
        """Number of images."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of the images."""
        ...

    def uint8_batches(self, batch_size: int) -> Iterable[Tensor]:
        """Yield all images once in a fixed order, in batches (N, C, H, W) uint8."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Features of the real images by one extractor."""

    mean: Tensor
    """Mean feature, (D,) float64."""
    cov: Tensor
    """Unbiased covariance, (D, D) float64."""
    features: Tensor
    """Features for KID, (M, D) float32: all, or 5,000 at most, evenly spaced."""
    num_images: int
    """Number of images in ``mean`` and ``cov``."""
    pixel_std: float
    """Standard deviation of the pixels in [-1, 1], to compare with samples."""
    extractor: str
    extractor_sha256: str
    data_fingerprint: str

    @property
    def statistics(self) -> FeatureStatistics:
        """The real side of the Frechet distance."""
        return FeatureStatistics(self.mean, self.cov, self.num_images)

    @property
    def digest(self) -> str:
        """Identity of data and extractor, for comparing results."""
        # NOTE: Feature values stay out, because they differ between machines.
        return identity_digest(_identity(self.data_fingerprint, self.extractor_sha256))


def load_or_compute_reference(
    source: RealImages, extractor: FeatureExtractor, cache_dir: Path
) -> Reference:
    """Load the reference from the cache, or compute and store it.

    Several processes may do this at once, because files are written atomically. A damaged file
    is logged and computed again.

    Args:
        source: The real images.
        extractor: The feature extractor.
        cache_dir: Folder of ``reference-<digest>.safetensors``; created if missing.

    Raises:
        TrialError: If a feature is not finite.
        StorageError: If the cache cannot be written.
    """
    identity = _identity(source.fingerprint, extractor.sha256)
    path = cache_dir / f"reference-{identity_digest(identity)}.safetensors"
    if (found := load_tensors(path, _TENSORS, identity)) is not None:
        tensors, metadata = found
        return Reference(
            **tensors,
            num_images=int(metadata["num_images"]),
            pixel_std=float(metadata["pixel_std"]),
            extractor=extractor.name,
            extractor_sha256=extractor.sha256,
            data_fingerprint=source.fingerprint,
        )
    reference = compute_reference(source, extractor)
    numbers = {
        "num_images": str(reference.num_images),
        "pixel_std": repr(reference.pixel_std),
        "extractor": reference.extractor,
    }
    save_tensors(path, {name: getattr(reference, name) for name in _TENSORS}, identity | numbers)
    return reference


def compute_reference(source: RealImages, extractor: FeatureExtractor) -> Reference:
    """Compute the statistics of all images of ``source`` in one pass."""
    stride = -(-source.num_images // MAX_FULL)  # rounded up
    kept: list[Tensor] = []
    pixel_sums = torch.zeros(3, dtype=torch.float64)  # count, sum, sum of squares

    def batches() -> Iterator[Tensor]:
        seen = 0
        for images in source.uint8_batches(_BATCH):
            pixels = images.double() / 127.5 - 1
            pixel_sums.add_(
                torch.stack([torch.tensor(pixels.numel()), pixels.sum(), pixels.square().sum()])
            )
            with torch.inference_mode():
                features = extractor(images).float().cpu()
            rows = torch.arange(seen, seen + len(features)) % stride == 0
            kept.append(features[rows])
            seen += len(features)
            yield features

    statistics = feature_statistics(batches())
    num_pixels, total, squares = pixel_sums.tolist()
    return Reference(
        mean=statistics.mean,
        cov=statistics.cov,
        features=torch.cat(kept),
        num_images=statistics.num_images,
        pixel_std=max(0.0, squares / num_pixels - (total / num_pixels) ** 2) ** 0.5,
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        data_fingerprint=source.fingerprint,
    )


def _identity(data_fingerprint: str, extractor_sha256: str) -> dict[str, str]:
    return {
        "schema": _SCHEMA,
        "data_fingerprint": data_fingerprint,
        "extractor_sha256": extractor_sha256,
    }
