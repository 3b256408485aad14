"""FIDs of few images that full depth's images correct."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from schedsearch.evaluation.control import Control, load_control, part_is_sound, save_part
from schedsearch.evaluation.frechet import (
    FeatureStatistics,
    feature_statistics,
    frechet_distance,
    pooled_statistics,
)
from schedsearch.exceptions import TrialError

DIM, FEW, MANY = 8, 100, 4000
REAL = FeatureStatistics(torch.full((DIM,), 0.3).double(), 1.2 * torch.eye(DIM).double(), 10_000)


def full_depth(seed: int, num: int) -> Tensor:
    """Features of full depth's images from some noise."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.eye(DIM) + 0.3 * torch.ones(DIM, DIM)
    return torch.randn(num, DIM, generator=rng) @ mixing


def scheduled(features: Tensor, seed: int) -> Tensor:
    """What a schedule makes of the same noise: nearly the same images."""
    rng = torch.Generator().manual_seed(10_000 + seed)
    return 0.9 * features + 0.2 + 0.1 * torch.randn(features.shape, generator=rng)


def control_of(seed: int) -> Control:
    further = [feature_statistics(full_depth(seed + 1000 * k, FEW)) for k in range(1, 40)]
    return Control.of(full_depth(seed, FEW), further)


def test_pooled_statistics_are_those_of_all_images() -> None:
    parts = [full_depth(seed, num) for seed, num in ((1, 5), (2, 30), (3, 11))]
    pooled = pooled_statistics([feature_statistics(part) for part in parts])
    whole = feature_statistics(torch.cat(parts))
    assert pooled.num_images == whole.num_images == 46
    torch.testing.assert_close(pooled.mean, whole.mean)
    torch.testing.assert_close(pooled.cov, whole.cov)


def test_full_depth_itself_gets_its_statistics_over_all_noise() -> None:
    control = control_of(0)
    corrected = control.corrected(control.features)
    torch.testing.assert_close(corrected.mean, control.pooled.mean)
    torch.testing.assert_close(corrected.cov, control.pooled.cov)


def test_the_luck_of_few_images_goes() -> None:
    plain, corrected = [], []
    for seed in range(30):
        features = scheduled(full_depth(seed, FEW), seed)
        plain.append(frechet_distance(feature_statistics(features), REAL))
        corrected.append(frechet_distance(control_of(seed).corrected(features), REAL))
    truth = frechet_distance(feature_statistics(scheduled(full_depth(99, 200_000), 99)), REAL)
    assert np.std(corrected) < np.std(plain) / 4
    bias = abs(np.mean(corrected) - truth)
    assert bias < abs(np.mean(plain) - truth) / 2  # FID is biased in the number of images, too
    assert bias < np.std(plain)


def test_a_control_that_knows_nothing_changes_hardly_anything() -> None:
    features = full_depth(77, FEW)
    control = control_of(5)
    plain = frechet_distance(feature_statistics(features), REAL)
    assert frechet_distance(control.corrected(features), REAL) == pytest.approx(plain, rel=0.05)
    constant = Control.of(torch.zeros(FEW, DIM), [])
    found = constant.corrected(features)
    torch.testing.assert_close(found.mean, feature_statistics(features).mean)


def test_features_must_be_paired_and_finite() -> None:
    control = control_of(0)
    with pytest.raises(ValueError, match=r"paired.*\(99, 8\) and \(100, 8\)"):
        control.corrected(control.features[1:])
    broken = control.features.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(TrialError, match="1 of 100 feature rows are not finite"):
        control.corrected(broken)


def test_parts_on_disk(tmp_path: Path) -> None:
    parts = [full_depth(seed, FEW) for seed in (0, 1, 2)]
    paths = [tmp_path / "reference" / f"control-{seed}.safetensors" for seed in (0, 1, 2)]
    for part, path in zip(parts, paths, strict=True):
        save_part(part, path, whole=path is paths[0])
    assert paths[1].stat().st_size < paths[0].stat().st_size
    found = load_control(paths[0], paths[1:])
    made = Control.of(parts[0], [feature_statistics(part) for part in parts[1:]])
    assert torch.equal(found.features, made.features)
    torch.testing.assert_close(found.pooled.cov, made.pooled.cov)
    assert found.pooled.num_images == 3 * FEW
    with pytest.raises(OSError, match=r"control-1.safetensors holds no features"):
        load_control(paths[1], paths[2:])
    whole = paths[2].read_bytes()
    for damaged in (b"torn", whole[:-1] + bytes([whole[-1] ^ 1])):
        paths[2].write_bytes(damaged)
        assert not part_is_sound(paths[2])
        with pytest.raises(OSError, match=r"control-2.safetensors is damaged"):
            load_control(paths[0], paths[1:])
    assert part_is_sound(paths[1])
    paths[2].unlink()
    with pytest.raises(OSError):  # noqa: PT011 - the system's own words
        load_control(paths[0], paths[1:])
