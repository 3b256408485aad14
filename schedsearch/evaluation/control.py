"""FIDs of few images by control variates: what full depth shows of the noise itself.

All trials sample from the same noise, and with a deterministic solver full depth and a schedule
draw nearly the same image from it. So most of what a sample of a few hundred images misses of a
schedule's mean and covariance, it misses of full depth's too, whose statistics over many images
are known. That difference, times the regression coefficient of the schedule's features on full
depth's, is taken out (control variates; Lavenberg and Welch, 1981).

All that is corrected by one control shares what its images miss, so the spread of such FIDs over
seeds says too little of their noise. They rank the trials of a run; verdicts take plain FIDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from schedsearch.atomic import replacing
from schedsearch.evaluation.frechet import (
    FeatureStatistics,
    feature_statistics,
    pooled_statistics,
)
from schedsearch.evaluation.reference import tensor_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Full depth of the pretrained network, from the trials' noise and from much more."""

    features: Tensor
    """(N, D), of the images from the trials' own noise and labels, in their order."""
    own: FeatureStatistics
    """Of these."""
    pooled: FeatureStatistics
    """Of these and of all images from further noise."""

    @classmethod
    def of(cls, features: Tensor, further: Sequence[FeatureStatistics]) -> Control:
        """Put together from parts.

        Args:
            features: From the trials' own noise, (N, D).
            further: Statistics of images from further noise.
        """
        own = feature_statistics(features)
        return cls(features=features, own=own, pooled=pooled_statistics([own, *further]))

    def corrected(self, features: Tensor) -> FeatureStatistics:
        """What a schedule's statistics would be over all of the control's noise, by estimate.

        With ``y = beta x + e`` and ``e`` uncorrelated with full depth's features ``x``, the mean
        loses ``beta (mean(x) - mean(pooled x))`` and the covariance ``beta^2`` times the same
        difference. One ``beta`` serves all features: a matrix would fit the noise of N images.

        Args:
            features: From the trials' own noise, (N, D), in the order of the control's.

        Raises:
            ValueError: If they are not paired with the control's.
        """
        if features.shape != self.features.shape:
            raise ValueError(
                "Features must be paired with the control's, image by image, but got shapes "
                f"{tuple(features.shape)} and {tuple(self.features.shape)}."
            )
        plain = feature_statistics(features)
        y = features.double().cpu() - plain.mean
        x = self.features.double().cpu() - self.own.mean
        spread = float((x * x).sum())
        beta = float((x * y).sum()) / spread if spread > 0 else 0.0
        return FeatureStatistics(
            plain.mean - beta * (self.own.mean - self.pooled.mean),
            plain.cov - beta**2 * (self.own.cov - self.pooled.cov),
            plain.num_images,
        )


def save_part(features: Tensor, path: Path, *, whole: bool) -> None:
    """Keep what one seed's noise gives, whole or not at all.

    Args:
        features: (N, D).
        path: Where to.
        whole: Keep the features too, not their statistics alone.

    Raises:
        TrialError: If a feature is not finite.
        OSError: If the disk fails.
    """
    found = feature_statistics(features)
    count = torch.tensor(found.num_images)
    tensors = {"mean": found.mean, "cov": found.cov, "num_images": count}
    if whole:
        tensors["features"] = features.float().cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:  # safetensors itself has no checksum
        save_file(tensors, temporary, {"tensors_sha256": tensor_digest(tensors)})


def part_is_sound(path: Path) -> bool:
    """Whether a part is there and as it was written."""
    try:
        _load(path)
    except OSError:
        return False
    return True


def load_control(own: Path, further: Sequence[Path]) -> Control:
    """Read the parts that :func:`save_part` left.

    Args:
        own: Of the trials' noise, kept whole.
        further: Of further noise.

    Raises:
        OSError: If a part is missing or damaged.
    """
    parts = [_load(path) for path in further]
    if (features := _load(own).get("features")) is None:
        raise OSError(f"{own} holds no features")
    return Control.of(
        features, [FeatureStatistics(p["mean"], p["cov"], int(p["num_images"])) for p in parts]
    )


def _load(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise OSError(f"{path} is damaged: {error}") from error
    if metadata.get("tensors_sha256") != tensor_digest(tensors):
        raise OSError(f"{path} is damaged: its checksum does not match")
    return tensors
