"""Quality of one network with one schedule: FID, KID, and judges that copies cannot flatter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.data.pixels import as_pixels, to_uint8
from schedsearch.evaluation.features import (
    Classifier,
    FeatureExtractor,
    extract_features,
    iterate_batches,
)
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.evaluation.kid import kernel_distance
from schedsearch.evaluation.real_images.neighbours import TrainingNeighbours
from schedsearch.evaluation.real_images.reference import Reference
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import TrialError
from schedsearch.protocols import Backbone, Method, NetworkCall, Solver
from schedsearch.settings import DiffusionSettings, SolverSettings

GRID_IMAGES = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Quality of the samples of one network with one schedule."""

    fid: float
    kid: float
    sample_std: float
    """Standard deviation of the pixels before clipping to [-1, 1].

    With few solver steps errors can cancel in FID. Then this value differs from the reference's
    ``pixel_std``.
    """
    reference_std: float
    """The reference's ``pixel_std``."""
    num_samples: int
    class_accuracy: float | None
    """Share of samples that the extractor classifies as their label; None if it cannot."""
    samples: Tensor
    """The first images for a grid, (<= 80, C, H, W) uint8."""
    audit_fid: float | None = None
    """FID of the same images by the auditor, if there is one."""
    nn_distance: float | None = None
    """Mean distance to the nearest training image: Euclidean over all pixels in [-1, 1]."""
    near_copies: float | None = None
    """Share of images within the radius of near copies, see :mod:`.real_images.neighbours`."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """A second, independent extractor with its reference."""

    extractor: FeatureExtractor
    reference: Reference

    def fid(self, images: Tensor, batch_size: int) -> float:
        """Compute the FID of images, (N, C, H, W) uint8."""
        features = extract_features(self.extractor, iterate_batches(images, batch_size))
        return frechet_distance(feature_statistics(features), self.reference.statistics)


def measure_quality(
    net: Backbone,
    method: Method,
    solver: Solver,
    *,
    seed: int,
    num_samples: int,
    batch_size: int,
    extractor: FeatureExtractor,
    reference: Reference,
    cfg_scale: float = 1.0,
    cfg_channels: int | None = None,
    decode: Callable[[Tensor], Tensor] = as_pixels,
    auditor: Auditor | None = None,
    neighbours: TrainingNeighbours | None = None,
    observe: Callable[[NetworkCall], None] | None = None,
) -> Quality:
    """Sample images and compare them with the real ones.

    Equal seeds give every schedule the same noise and labels (common random numbers). This
    reduces the noise of the difference between similar schedules.

    Args:
        net: The network, in eval mode.
        method: How the network is called, such as an exit schedule.
        solver: Integrates the reverse process.
        seed: Evaluation seed.
        num_samples: Number of images. FID depends on it, so only equal numbers compare.
        batch_size: Images at once, for network and extractor.
        extractor: The extractor of ``reference``.
        reference: Statistics of the real images.
        cfg_scale: Scale of classifier-free guidance; 1 is off.
        cfg_channels: Number of guided channels; None guides all.
        decode: Converts samples to pixels in [-1, 1], as the image source does. The default is
            for models of pixels.
        auditor: Second extractor; None leaves it out.
        neighbours: Training images to look for copies of; None leaves it out.
        observe: Gets the method's run of every batch when it has ended.

    Raises:
        TrialError: If samples (stage ``sample``) or features (stage ``fid``) are not finite.
        ValueError: If another extractor made the reference.
    """
    if extractor.sha256 != reference.extractor_sha256:
        raise ValueError(
            f"The reference was made by {reference.extractor}, not by {extractor.name} with "
            "these weights; the distance would mean nothing."
        )
    # Sample.
    noise = starting_noise(seed, num_samples, net.in_shape)
    labels = balanced_labels(num_samples, net.num_classes)
    raw = generate(
        net,
        method,
        solver,
        noise,
        labels,
        batch_size,
        cfg_scale=cfg_scale,
        cfg_channels=cfg_channels,
        seed=seed,
        observe=observe,
    )
    _check_finite(raw)
    # Measure.
    images, sample_std = _decoded(raw, decode, batch_size)
    features = extract_features(extractor, iterate_batches(images, batch_size))
    nearness = None if neighbours is None else neighbours.compare(images)
    return Quality(
        fid=frechet_distance(feature_statistics(features), reference.statistics),
        kid=kernel_distance(features, reference.features),
        sample_std=sample_std,
        reference_std=reference.pixel_std,
        num_samples=num_samples,
        class_accuracy=_class_accuracy(extractor, images, labels, batch_size),
        samples=images[:GRID_IMAGES].clone(),
        audit_fid=None if auditor is None else auditor.fid(images, batch_size),
        nn_distance=None if nearness is None else nearness.distance,
        near_copies=None if nearness is None else nearness.near_copies,
    )


def protocol_digest(
    *,
    extractor_sha256: str,
    reference_digest: str,
    num_samples: int,
    solver: SolverSettings,
    diffusion: DiffusionSettings,
    seed: int,
) -> str:
    """Digest of everything that must agree for two FIDs to compare, 16 hex digits."""
    protocol = {
        "extractor": extractor_sha256,
        "reference": reference_digest,
        "num_samples": num_samples,
        "solver": solver.to_dict(),
        "diffusion": diffusion.to_dict(),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:16]


def _check_finite(samples: Tensor) -> None:
    finite = torch.isfinite(samples).flatten(1).all(1)
    if not bool(finite.all()):
        raise TrialError(
            f"{int((~finite).sum())} of {len(samples)} samples are not finite: the network or "
            "its fine-tune has diverged.",
            stage="sample",
        )


def _decoded(
    samples: Tensor, decode: Callable[[Tensor], Tensor], batch_size: int
) -> tuple[Tensor, float]:
    """Decode to images, (N, C, H, W) uint8, and return their std before clipping."""
    # NOTE: In batches, because decoded float pixels take 48 times the memory of latents.
    images: list[Tensor] = []
    sums = torch.zeros(3, dtype=torch.float64)  # count, sum, sum of squares
    for batch in iterate_batches(samples, batch_size):
        pixels = decode(batch)
        _check_finite(pixels)
        images.append(to_uint8(pixels))
        exact = pixels.double()
        sums += torch.stack([torch.tensor(exact.numel()), exact.sum(), exact.square().sum()])
    count, total, squares = sums.tolist()
    return torch.cat(images), max(0.0, squares / count - (total / count) ** 2) ** 0.5


def _class_accuracy(
    extractor: FeatureExtractor, images: Tensor, labels: Tensor | None, batch_size: int
) -> float | None:
    if labels is None or not isinstance(extractor, Classifier):
        return None
    with torch.inference_mode():
        found = [
            extractor.classify(batch).argmax(1).cpu()
            for batch in iterate_batches(images, batch_size)
        ]
    return float((torch.cat(found) == labels).double().mean())
