import math

import torch

from schedsearch.backbones.layers import time_features, unpatchify


def test_time_features_are_cosines_then_sines_over_the_half_width() -> None:
    features = time_features(torch.tensor([0.0, 1.5, 998.25]), 8)
    assert features.shape == (3, 8)
    for row, t in zip(features, (0.0, 1.5, 998.25), strict=True):
        angles = [t * 10_000 ** (-i / 4) for i in range(4)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=0, atol=1e-4)


def test_time_features_have_the_digits_of_the_official_code() -> None:
    """Its order of operations, at a half width (U-ViT-M) where another one rounds otherwise."""
    t = torch.tensor([3.7, 500.0, 998.25])
    half = 384
    exponent = -math.log(10000) * torch.arange(0, half, dtype=torch.float32) / half
    angles = t[:, None] * torch.exp(exponent)[None]
    assert torch.equal(time_features(t, 768), torch.cat([angles.cos(), angles.sin()], -1))


def test_time_features_of_odd_width_end_in_zero_and_stay_float32() -> None:
    t = torch.tensor([3, 900])
    assert torch.equal(time_features(t, 9)[:, :8], time_features(t, 8))
    assert not time_features(t, 9)[:, 8].any()
    assert time_features(t.double(), 8).dtype == torch.float32


def test_unpatchify_puts_each_value_where_its_patch_was() -> None:
    image = torch.arange(2 * 3 * 6 * 6).reshape(2, 3, 6, 6)
    pixels = torch.stack(
        [
            image[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].permute(0, 2, 3, 1).flatten(1)
            for i in range(3)
            for j in range(3)
        ],
        dim=1,
    )
    assert torch.equal(unpatchify(pixels, 2, 3), image)
