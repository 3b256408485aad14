"""Distances of generated images to the nearest training image.

FID falls when a network copies its training images. These distances fall too, so they tell a
copy from a better image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from schedsearch.evaluation.real_images.cached_tensors import (
    identity_digest,
    load_tensors,
    save_tensors,
)
from schedsearch.evaluation.real_images.reference import RealImages

MAX_VALUES = 2**26
"""Pixel values of training images to compare with: all of MNIST, or 21,845 of CIFAR-10."""

MAX_IMAGE_VALUES = 64 * 64 * 3
"""Pixel values of the largest images to compare. In larger ones a small shift outweighs the
content."""

MAX_RADIUS_IMAGES = 4000
"""Training images that the radius of near copies is a percentile of."""

NATURAL_SHARE = 0.05
"""Share of near copies among new images of the same kind."""

_SCHEMA = "schedsearch.neighbours/1"
_SEED = 0
_BATCH = 256
_ROWS, _CHUNK_VALUES = 512, 2**22  # images compared at once, so that memory is bounded
_CENTRE = 128.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """How near some images are to the training images."""

    distance: float
    """Mean Euclidean distance over all pixels to the nearest one; pixels in [-1, 1]."""
    near_copies: float
    """Share of images within the radius of near copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingNeighbours:
    """Training images to compare with."""

    images: Tensor
    """(M, C, H, W) uint8: all, or as many drawn ones as :data:`MAX_VALUES` holds."""
    radius: float
    """Distance below which the closest 5 % of training images are to each other."""
    mirrored: bool
    """Whether mirrored training images count too."""

    def compare(self, images: Tensor) -> Nearness:
        """Compare images, (N, C, H, W) uint8, with the training images."""
        distances = nearest_distances(images, self.images, mirrored=self.mirrored)
        return Nearness(
            distance=float(distances.mean()),
            near_copies=float((distances <= self.radius).double().mean()),
        )


def load_or_compute_neighbours(
    source: RealImages, cache_dir: Path, *, mirrored: bool = False
) -> TrainingNeighbours | None:
    """Load the training images to compare with from the cache, or draw and store them.

    Args:
        source: The training images.
        cache_dir: Folder of ``neighbours-<digest>.safetensors``; created if missing.
        mirrored: Whether training mirrors images at random.

    Returns:
        None where pixels say nothing: images above :data:`MAX_IMAGE_VALUES`, or fewer than two.

    Raises:
        StorageError: If the cache cannot be written.
    """
    if source.num_images < 2:
        return None
    size = next(iter(source.uint8_batches(1)))[0].numel()
    if size > MAX_IMAGE_VALUES:
        return None
    identity = {
        "schema": _SCHEMA,
        "data_fingerprint": source.fingerprint,
        "mirrored": str(mirrored),
        "limits": f"{MAX_VALUES} {MAX_RADIUS_IMAGES}",
    }
    path = cache_dir / f"neighbours-{identity_digest(identity)}.safetensors"
    if (found := load_tensors(path, ("images",), identity)) is not None:
        tensors, metadata = found
        return TrainingNeighbours(
            images=tensors["images"], radius=float(metadata["radius"]), mirrored=mirrored
        )
    images = _drawn(source, limit=MAX_VALUES // size)
    if len(images) < 2:
        return None
    radius = radius_of(images, mirrored=mirrored)
    save_tensors(path, {"images": images}, identity | {"radius": repr(radius)})
    return TrainingNeighbours(images=images, radius=radius, mirrored=mirrored)


def radius_of(images: Tensor, *, mirrored: bool = False) -> float:
    """Distance within which 5 % of the images, (M, C, H, W) uint8, have a neighbour."""
    generator = torch.Generator().manual_seed(_SEED)
    rows = torch.randperm(len(images), generator=generator)[:MAX_RADIUS_IMAGES]
    distances = nearest_distances(images[rows], images, mirrored=mirrored, own_rows=rows)
    return float(distances.quantile(NATURAL_SHARE))


def nearest_distances(
    images: Tensor, others: Tensor, *, mirrored: bool = False, own_rows: Tensor | None = None
) -> Tensor:
    """Distance of every image to the nearest other one.

    Args:
        images: (N, C, H, W) uint8.
        others: (M, C, H, W) uint8.
        mirrored: Whether the mirror images of ``others`` count too.
        own_rows: Rows of ``images`` in ``others``, (N,), which are left out.

    Returns:
        Euclidean distances over all pixels, scaled to [-1, 1]; (N,) float64.
    """
    found = _nearest(images, others, own_rows)
    if mirrored:
        found = torch.minimum(found, _nearest(images.flip(3), others, own_rows))
    return found


def _nearest(images: Tensor, others: Tensor, own_rows: Tensor | None) -> Tensor:
    rows, flat = images.flatten(1), others.flatten(1)
    best = torch.full((len(rows),), torch.inf)
    nearest = torch.zeros(len(rows), dtype=torch.long)
    chunk = max(1, min(8192, _CHUNK_VALUES // rows.shape[1]))
    # Find the nearest.
    for start in range(0, len(flat), chunk):
        levels = flat[start : start + chunk].float() - _CENTRE  # (m, D)
        squares = levels.square().sum(1)
        for first in range(0, len(rows), _ROWS):
            part = slice(first, first + _ROWS)
            # NOTE: |a - b|^2 without |a|^2, which is the same for every b.
            scores = squares - 2 * (rows[part].float() - _CENTRE) @ levels.T  # (n, m)
            if own_rows is not None:
                own = own_rows[part] - start
                here = ((own >= 0) & (own < len(levels))).nonzero()[:, 0]
                scores[here, own[here]] = torch.inf
            values, columns = scores.min(1)
            nearer = values < best[part]
            best[part] = torch.where(nearer, values, best[part])
            nearest[part] = torch.where(nearer, columns + start, nearest[part])
    # Measure exactly, since the scores above are rounded.
    parts = []
    for first in range(0, len(rows), _ROWS):
        part = slice(first, first + _ROWS)
        parts.append((rows[part].double() - flat[nearest[part]].double()).norm(dim=1))
    return torch.cat(parts) * (2 / 255)


def _drawn(source: RealImages, limit: int) -> Tensor:
    """All images of a source, or ``limit`` of them drawn with a fixed seed, in order."""
    generator = torch.Generator().manual_seed(_SEED)
    wanted = torch.zeros(source.num_images, dtype=torch.bool)
    wanted[torch.randperm(source.num_images, generator=generator)[:limit]] = True
    kept, seen = [], 0
    for batch in source.uint8_batches(_BATCH):
        kept.append(batch[wanted[seen : seen + len(batch)]])
        seen += len(batch)
    return torch.cat(kept)
