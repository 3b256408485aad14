"""Closed-form fits against numpy's least squares; what a fit may never do."""

import numpy as np
import pytest
import torch

from schedsearch.methods.plans.maps import (
    adapted,
    diagonal_sums,
    fit_adapter,
    fit_diagonal,
    fit_map,
    fit_reuse_map,
    map_sums,
    reused,
)

ROWS, WIDTH = 400, 6


def drawn(*, shift=0.0, seed=0):
    """Tokens, residuals and tokens after all blocks, (M, D); channels depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    h, residual, noise = torch.randn(3, ROWS, WIDTH, generator=generator).unbind(0)
    mix = torch.randn(2, WIDTH, WIDTH, generator=generator)
    h = h + shift
    residual = residual + 0.5 * h
    full = h + residual + 0.2 * (h @ mix[0] + residual @ mix[1]) + 0.3 + 0.1 * noise
    return h, residual, full


def least_squares(inputs, wanted):
    """Coefficients and bias, (K + 1, D), by numpy."""
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1).astype(np.float64)
    return np.linalg.lstsq(design, np.asarray(wanted, np.float64), rcond=None)[0]


def squared_error(found, wanted):
    return (found.double() - wanted.double()).square().sum(0)


# ---- against least squares ----------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_fit_per_channel_is_least_squares(shift):
    h, residual, full = drawn(shift=shift)
    found = fit_diagonal(diagonal_sums(h, residual, full))
    assert found.dtype == torch.float32
    for channel in range(WIDTH):
        inputs = torch.stack([h[:, channel], residual[:, channel]], dim=1)
        expected = least_squares(inputs.numpy(), full[:, channel].numpy())
        np.testing.assert_allclose(found[:, channel], expected, rtol=1e-2, atol=1e-2)


def test_the_ridge_of_a_fit_per_channel_is_a_thousandth_of_the_variance():
    h, residual, _ = drawn()
    residual = residual - 0.5 * h  # independent of the tokens but for the draw
    residual = residual - h * (h * residual).mean(0) / h.square().mean(0)
    found = fit_diagonal(diagonal_sums(h, residual, h + 2.0 * residual))
    torch.testing.assert_close(found[1], torch.full((WIDTH,), 1 + 1 / 1.001), rtol=0, atol=1e-4)


def test_a_reuse_map_is_least_squares():
    h, residual, full = drawn()
    inputs = torch.cat([h, residual], dim=1)
    found = fit_reuse_map(map_sums(inputs, full - h - residual))
    assert found.shape == (2 * WIDTH + 1, WIDTH)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, least_squares(inputs, full), rtol=1e-2, atol=1e-2)


def test_an_adapter_is_least_squares():
    h, _, full = drawn()
    found = fit_adapter(map_sums(h, full - h))
    assert found.shape == (WIDTH + 1, WIDTH)
    np.testing.assert_allclose(found, least_squares(h, full), rtol=1e-2, atol=1e-2)


def test_a_map_shrinks_towards_zero_but_for_its_bias():
    inputs = torch.eye(4).repeat(2, 1) * 10
    missed = torch.full((8, 1), 3.0)
    found = fit_map(map_sums(inputs, missed))
    np.testing.assert_allclose(found[:, 0], [0, 0, 0, 0, 3.0], atol=1e-9)
    # The ridge is a thousandth of the mean square of an input.
    inputs = torch.tensor([[10.0, 10.0], [10.0, -10.0], [-10.0, 10.0], [-10.0, -10.0]])
    slope = fit_map(map_sums(inputs, 0.3 * inputs[:, :1]))
    np.testing.assert_allclose(slope[:, 0], [0.3 / 1.001, 0.0, 0.0], atol=1e-8)


# ---- what a fit may never do --------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_fit_never_raises_the_error_on_its_own_data(seed, shift):
    h, residual, full = drawn(shift=shift, seed=seed)
    inputs = torch.cat([h, residual], dim=1)
    plain = squared_error(h + residual, full)
    diagonal = reused(h, residual, fit_diagonal(diagonal_sums(h, residual, full)))
    by_map = reused(h, residual, fit_reuse_map(map_sums(inputs, full - h - residual)))
    assert (squared_error(diagonal, full) < plain).all()
    assert (squared_error(by_map, full) < squared_error(diagonal, full)).all()
    adapter = fit_adapter(map_sums(h, full - h))
    assert (squared_error(adapted(h, adapter), full) < squared_error(h, full)).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_of_noise_does_not_raise_the_error_either(seed):
    h, residual, noise = torch.randn(3, 20, WIDTH, generator=torch.manual_seed(seed)).unbind(0)
    full = h + residual + 1e-3 * noise
    plain = squared_error(h + residual, full) * (1 + 1e-4)
    diagonal = reused(h, residual, fit_diagonal(diagonal_sums(h, residual, full)))
    sums = map_sums(torch.cat([h, residual], dim=1), full - h - residual)
    assert (squared_error(diagonal, full) <= plain).all()
    assert (squared_error(reused(h, residual, fit_reuse_map(sums)), full) <= plain).all()


@pytest.mark.parametrize("value", [0.0, 37.3, 12345.6])
def test_channels_that_never_vary_keep_the_scales_of_plain_reuse(value):
    h, residual, _ = drawn()
    constant = torch.full_like(h, value)
    for a, b, constants in (
        (constant, residual, [0]),
        (h, constant, [1]),
        (constant, constant / 3, [0, 1]),
    ):
        full = a + 1.5 * b + 0.5
        found = fit_diagonal(diagonal_sums(a, b, full))
        assert (found[constants] - 1).abs().max() < 1e-4
        torch.testing.assert_close(reused(a, b, found), full, rtol=1e-5, atol=1e-2)


def test_a_map_of_zeros_adds_nothing():
    zeros = torch.zeros(5, WIDTH)
    assert fit_map(map_sums(zeros, zeros)).abs().max() == 0
    identity = fit_adapter(map_sums(zeros, zeros))
    assert torch.equal(adapted(torch.eye(WIDTH), identity), torch.eye(WIDTH))


def test_sums_of_two_batches_are_those_of_one():
    h, residual, full = drawn()
    inputs = torch.cat([h, residual], dim=1)
    for sums, arguments in (
        (diagonal_sums, (h, residual, full)),
        (map_sums, (inputs, full - h - residual)),
    ):
        whole = sums(*arguments)
        parts = [sums(*(a[rows] for a in arguments)) for rows in (slice(150), slice(150, None))]
        assert whole.dtype == torch.float64
        torch.testing.assert_close(parts[0] + parts[1], whole, rtol=1e-12, atol=1e-9)


def test_many_cells_are_fitted_at_once():
    sums = torch.stack([diagonal_sums(*drawn(seed=seed)) for seed in range(4)]).unflatten(
        0, (2, 2)
    )
    found = fit_diagonal(sums)
    assert found.shape == (2, 2, 3, WIDTH)
    torch.testing.assert_close(found[1, 0], fit_diagonal(sums[1, 0]))


# ---- forms of the numbers -----------------------------------------------------------------------


def test_the_rows_of_the_numbers():
    h, residual = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[10.0, 20.0]]])
    diagonal = torch.tensor([[2.0, 3.0], [0.5, 1.0], [0.1, 0.2]])
    assert reused(h, residual, None).tolist() == [[[11.0, 22.0]]]
    torch.testing.assert_close(reused(h, residual, diagonal), torch.tensor([[[7.1, 26.2]]]))
    by_map = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1], [5, 6]])  # h to channel 0, r to 1
    assert reused(h, residual, by_map).tolist() == [[[8.0, 36.0]]]
    adapter = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.0]])  # swaps the channels
    assert adapted(h, adapter).tolist() == [[[2.5, 1.0]]]
