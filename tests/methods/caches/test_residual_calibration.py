"""The fit of TeaCache's polynomial, and the recording that it needs."""

import numpy as np
import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.residual_cache import ResidualCache, polynomial
from schedsearch.methods.caches.residual_calibration import InputRecording, fit_rescale
from tests.methods.caches.cached_runs import NETS, TIMES, constant_branches, sample, sample_plain


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_recording_samples_at_full_depth(net, solver, cfg_scale):
    found, run = sample(InputRecording(), net, solver=solver, cfg_scale=cfg_scale)
    assert torch.equal(found, sample_plain(net, solver=solver, cfg_scale=cfg_scale))
    assert len(run.pairs) == len(TIMES) - 1
    assert all(change > 0 for pair in run.pairs for change in pair)
    assert all((blocks == net.num_blocks).all() for blocks in run.blocks)


def test_pairs_are_relative_changes_of_input_and_output():
    net = NETS["dit"]
    generator = torch.Generator().manual_seed(0)
    call = InputRecording().begin(net, TIMES, guided=False)
    inputs, outputs = [], []
    handle = net.blocks[0].attn.register_forward_hook(lambda m, i, o: inputs.append(i[0]))
    with torch.no_grad():
        for step, time in enumerate(TIMES[:2]):
            x = torch.randn(2, *net.in_shape, generator=generator)
            args = x, torch.full((2,), float(time)), torch.tensor([0, 1])
            outputs.append(call(*args, clock=time, step=step))
    handle.remove()
    expected = [
        float((after - before).abs().sum() / before.abs().sum())
        for before, after in (inputs, outputs)
    ]
    assert call.pairs[0] == pytest.approx(expected, rel=1e-5)


def test_a_polynomial_is_found_again():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(0, 0.5, 40)
    coefficients = (3.0, -2.0, 1.0, 0.5, 0.1)
    fit = fit_rescale(zip(inputs, np.polyval(coefficients, inputs), strict=True))
    assert fit.r2 == pytest.approx(1.0)
    assert fit.rescale == pytest.approx(coefficients, rel=1e-5)
    value = torch.tensor([0.25])
    assert polynomial(fit.rescale, value).tolist() == pytest.approx(
        [np.polyval(coefficients, 0.25)]
    )
    assert ResidualCache(0, "input", threshold=0.1, rescale=fit.rescale).rescale == fit.rescale


def test_a_poor_fit_is_the_identity():
    rng = np.random.default_rng(0)
    fit = fit_rescale(zip(rng.uniform(size=40), rng.uniform(size=40), strict=True))
    assert fit.rescale is None
    assert fit.r2 < 0.5
    # The bound itself: signal and noise as 0.8 and 0.2 of the variance.
    inputs = rng.normal(size=4000)
    for noise, used in ((0.4, True), (0.6, False)):
        pairs = zip(inputs, inputs + noise * rng.normal(size=4000), strict=True)
        fit = fit_rescale(pairs)
        assert fit.r2 == pytest.approx(1 / (1 + noise**2), abs=0.02)
        assert (fit.rescale is not None) == used


def test_an_output_that_changes_alike_everywhere_is_the_identity():
    assert fit_rescale([(0.1 * n, 0.5) for n in range(8)]).rescale is None


def test_too_few_pairs():
    _, run = sample(InputRecording(), constant_branches(NETS["dit"]))
    with pytest.raises(ConfigError, match="at least 6 pairs of steps, got 5"):
        fit_rescale(run.pairs[:5])
