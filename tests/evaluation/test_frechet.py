import time
import warnings

import numpy as np
import pytest
import torch

from schedsearch.evaluation.frechet import (
    FeatureStatistics,
    feature_statistics,
    frechet_distance,
)
from schedsearch.exceptions import TrialError


def _diagonal(mean, std, num_images=1000):
    cov = torch.diag(torch.tensor(std, dtype=torch.float64) ** 2)
    return FeatureStatistics(torch.tensor(mean, dtype=torch.float64), cov, num_images)


def _random_features(seed, num=300, dim=24):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dim, dim))
    return torch.from_numpy(rng.standard_normal((num, dim)) @ mixing + rng.standard_normal(dim))


def test_diagonal_gaussians_have_a_closed_form():
    a = _diagonal([0.0, 1.0, -2.0], [1.0, 2.0, 0.5])
    b = _diagonal([1.0, 1.0, 0.0], [3.0, 2.0, 0.0])
    expected = (1 + 0 + 4) + (1 - 3) ** 2 + 0 + 0.5**2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_equals_scipy_and_clean_fid():
    from cleanfid.fid import frechet_distance as clean_fid_distance
    from scipy.linalg import sqrtm

    a, b = feature_statistics(_random_features(0)), feature_statistics(_random_features(1))
    root = sqrtm(a.cov.numpy() @ b.cov.numpy()).real
    difference = (a.mean - b.mean).numpy()
    expected = difference @ difference + np.trace(a.cov.numpy() + b.cov.numpy() - 2 * root)
    value = frechet_distance(a, b)
    assert value == pytest.approx(expected, rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid's call of sqrtm
        theirs = clean_fid_distance(a.mean.numpy(), a.cov.numpy(), b.mean.numpy(), b.cov.numpy())
    assert value == pytest.approx(theirs, rel=1e-6)


def test_is_symmetric_and_zero_for_equal_statistics():
    a, b = feature_statistics(_random_features(0)), feature_statistics(_random_features(1))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(a, a) >= 0


def test_statistics_in_batches_equal_numpy_even_far_from_zero():
    features = _random_features(2) + 1e4
    for batches in (features, features.split([1, 0, 137, 162]), iter(features.split(7))):
        statistics = feature_statistics(batches)
        np.testing.assert_allclose(statistics.mean, features.numpy().mean(0), rtol=1e-12)
        np.testing.assert_allclose(
            statistics.cov, np.cov(features.numpy(), rowvar=False), rtol=1e-8, atol=1e-8
        )
        assert statistics.num_images == 300
        assert statistics.mean.dtype == statistics.cov.dtype == torch.float64


def test_rank_deficient_covariances_give_a_value():
    few = feature_statistics(_random_features(0, num=10))
    many = feature_statistics(_random_features(1))
    value = frechet_distance(few, many)
    assert np.isfinite(value)
    assert value > float((few.mean - many.mean).square().sum())
    identical = feature_statistics(torch.ones(50, 24))
    expected = (many.mean - 1).square().sum() + many.cov.trace()  # no covariance of its own
    assert frechet_distance(identical, many) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_features_are_refused_at_once(bad):
    # scipy's sqrtm would hang for ever on a NaN matrix of this size.
    features = torch.randn(300, 256)
    features[[3, 5], 7] = bad
    start = time.perf_counter()
    with pytest.raises(TrialError, match=r"2 of 300 feature rows") as caught:
        feature_statistics(features)
    assert caught.value.stage == "fid"
    broken = FeatureStatistics(features.mean(0), torch.full((256, 256), bad), 300)
    with pytest.raises(TrialError, match="not finite"):
        frechet_distance(broken, broken)
    assert time.perf_counter() - start < 5


def test_statistics_of_two_extractors_are_refused():
    with pytest.raises(ValueError, match="3 and 2 features"):
        frechet_distance(_diagonal([0.0] * 3, [1.0] * 3), _diagonal([0.0] * 2, [1.0] * 2))


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 images"):
        feature_statistics(torch.ones(1, 4))
