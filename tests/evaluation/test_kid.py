import numpy as np
import pytest
import torch

from schedsearch.evaluation import kid
from schedsearch.evaluation.kid import kernel_distance
from schedsearch.exceptions import TrialError


def _features(seed, num, dim=6, shift=0.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((num, dim)) + shift)


def _brute_force(x, y):
    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    xy = sum(kernel(a, b) for a in x for b in y)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def test_equals_a_double_loop(monkeypatch):
    monkeypatch.setattr(kid, "_CHUNK", 5)
    x, y = _features(0, 13), _features(1, 17, shift=0.3)
    assert kernel_distance(x, y) == pytest.approx(_brute_force(x, y), rel=1e-10)


def test_is_unbiased_at_any_number_of_images():
    for num in (5, 50):
        values = [
            kernel_distance(_features(2 * k, num), _features(2 * k + 1, num)) for k in range(200)
        ]
        assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5
    assert min(values) < 0, "an unbiased estimate of zero must fall on both sides"


def test_grows_with_the_distance():
    real = _features(0, 300)
    near, far = (kernel_distance(_features(1, 300, shift=s), real) for s in (0.1, 0.5))
    assert 0 < near < far


def test_subsets_approach_the_full_value_and_are_seeded(monkeypatch):
    monkeypatch.setattr(kid, "SUBSET_SIZE", 200)
    x, y = _features(0, 300, shift=0.3), _features(1, 250)
    full = kernel_distance(x, y)
    subsets = kernel_distance(x, y, max_full=200)
    assert subsets == pytest.approx(full, rel=0.05)
    assert subsets == kernel_distance(x, y, max_full=200)
    monkeypatch.setattr(kid, "_SEED", 1)
    assert subsets != kernel_distance(x, y, max_full=200)


def test_non_finite_features_are_refused():
    bad = _features(0, 10)
    bad[0, 0] = torch.nan
    with pytest.raises(TrialError, match="1 of 10 feature rows are not finite") as caught:
        kernel_distance(bad, _features(1, 10))
    assert caught.value.stage == "fid"


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="two images"):
        kernel_distance(_features(0, 1), _features(1, 10))
