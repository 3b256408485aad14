"""Feature statistics of the real images, cached on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from schedsearch.evaluation.features import FeatureExtractor
from schedsearch.evaluation.frechet import FeatureStatistics, feature_statistics
from schedsearch.evaluation.kid import MAX_FULL
from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import replacing

_SCHEMA = "schedsearch.reference/1"
_BATCH = 256
_log = logging.getLogger(__name__)


class RealImages(Protocol):
    """The part of a data source that a reference uses."""

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
        return _digest(self.data_fingerprint, self.extractor_sha256)


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
    path = cache_dir / f"reference-{_digest(source.fingerprint, extractor.sha256)}.safetensors"
    if path.exists():
        try:
            return _load(path, source.fingerprint, extractor)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            _log.warning("%s is damaged (%s); computing the reference again.", path, error)
    reference = compute_reference(source, extractor)
    _save(reference, path)
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


def _digest(data_fingerprint: str, extractor_sha256: str) -> str:
    key = "\n".join((_SCHEMA, data_fingerprint, extractor_sha256))
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def tensor_digest(tensors: dict[str, Tensor]) -> str:
    """Digest of names and values, to detect a damaged file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(reference: Reference, path: Path) -> None:
    tensors = {
        "mean": reference.mean,
        "cov": reference.cov,
        "features": reference.features.clone(),
    }
    metadata = {
        "schema": _SCHEMA,
        "num_images": str(reference.num_images),
        "pixel_std": repr(reference.pixel_std),
        "extractor": reference.extractor,
        "extractor_sha256": reference.extractor_sha256,
        "data_fingerprint": reference.data_fingerprint,
        "tensors_sha256": tensor_digest(tensors),  # NOTE: safetensors has no checksum
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"Cannot write the reference cache {path}: {error}.") from error


def _load(path: Path, data_fingerprint: str, extractor: FeatureExtractor) -> Reference:
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in ("mean", "cov", "features")}
    if metadata["tensors_sha256"] != tensor_digest(tensors):
        raise ValueError("its checksum does not match")
    expected = (_SCHEMA, data_fingerprint, extractor.sha256)
    if expected != tuple(
        metadata[key] for key in ("schema", "data_fingerprint", "extractor_sha256")
    ):
        raise ValueError("it belongs to other data")
    return Reference(
        **tensors,
        num_images=int(metadata["num_images"]),
        pixel_std=float(metadata["pixel_std"]),
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        data_fingerprint=data_fingerprint,
    )
