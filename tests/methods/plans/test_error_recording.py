"""The calibration run that measures what every reuse and exit would have predicted instead."""

import pytest
import torch

from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.plans.maps import (
    adapted,
    fit_adapter,
    fit_diagonal,
    fit_reuse_map,
    reused,
)
from schedsearch.methods.plans.recording import ErrorRecording, FitRecording, Layout
from schedsearch.methods.plans.steps import PlanStep
from tests.methods.caches.cached_runs import NETS, SOLVERS, TIMES, constant_branches, sample
from tests.methods.plans.planned_runs import (
    NETS_WITH_VARIANCE,
    head,
    inputs_of,
    plain_numbers,
    residual_of,
    tokens_after,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
with_variance = pytest.mark.parametrize("net", NETS_WITH_VARIANCE.values(), ids=NETS_WITH_VARIANCE)
guidance = pytest.mark.parametrize(
    ("cfg_scale", "cfg_channels"), [(1.0, None), (2.5, None), (2.5, 1)]
)
STEP, PREFIX, AGE = CELL = (5, 3, 2)


def recording_of(net, **arguments):
    layout = Layout(
        prefixes=(0, PREFIX), exits=(net.num_blocks - 2, net.num_blocks - 1), max_age=2
    )
    return ErrorRecording(layout=layout, channels=net.in_shape[0], **arguments)


def guided(prediction, channels, cfg_scale, cfg_channels):
    """Prediction of every image, guided by hand channel by channel."""
    if cfg_scale == 1:
        return prediction[:, :channels]
    with_label, without = prediction[:3], prediction[3:]
    parts = [
        without[:, c] + cfg_scale * (with_label[:, c] - without[:, c])
        if cfg_channels is None or c < cfg_channels
        else with_label[:, c]
        for c in range(channels)
    ]
    return torch.stack(parts, dim=1)


def error_by_hand(net, inputs, found, cfg_scale, cfg_channels):
    """Sum over images of the mean square between a prediction and that of full depth."""
    with torch.no_grad():
        full = net(*inputs, exit_depth=net.num_exit_blocks)
    channels = net.in_shape[0]
    pair = [guided(output, channels, cfg_scale, cfg_channels) for output in (found, full)]
    return float((pair[0] - pair[1]).double().square().flatten(1).mean(1).sum())


def noisy(text, width, seed=0):
    plain = plain_numbers(PlanStep.parse(text), width)
    return plain + 0.05 * torch.randn(plain.shape, generator=torch.manual_seed(seed))


# ---- cells by hand ------------------------------------------------------------------------------


@guidance
@pytest.mark.parametrize("form", ["R3", "G3", "M3"])
@with_variance
def test_the_error_of_a_reuse(net, form, cfg_scale, cfg_channels):
    numbers = None if form == "R3" else noisy(form, net.width)
    recording = recording_of(
        net,
        reuse=None if numbers is None else {CELL: numbers},
        cfg_scale=cfg_scale,
        cfg_channels=cfg_channels,
    )
    _, run = sample(recording, net, cfg_scale=cfg_scale)
    calls = inputs_of(net, cfg_scale=cfg_scale)
    tokens = tokens_after(net, calls[STEP], PREFIX)
    h = reused(tokens.h, residual_of(net, calls[STEP - AGE], PREFIX), numbers)
    expected = error_by_hand(net, calls[STEP], head(net, tokens, h), cfg_scale, cfg_channels)
    assert run.reuse[CELL] == pytest.approx(expected, rel=1e-4)
    assert run.num_images == 3
    ages = [(step, age) for step in range(len(TIMES)) for age in (1, 2) if age <= step]
    cells = {(step, prefix, age) for step, age in ages for prefix in (0, PREFIX)}
    assert set(run.reuse) == (cells if numbers is None else {CELL})


@guidance
@pytest.mark.parametrize("form", ["X", "A"])
@with_variance
def test_the_error_of_an_exit(net, form, cfg_scale, cfg_channels):
    depth = net.num_blocks - 2
    numbers = noisy(f"A{depth}", net.width)
    recording = recording_of(
        net,
        adapters={depth: numbers} if form == "A" else None,
        cfg_scale=cfg_scale,
        cfg_channels=cfg_channels,
    )
    _, run = sample(recording, net, cfg_scale=cfg_scale)
    inputs = inputs_of(net, cfg_scale=cfg_scale)[STEP]
    if form == "X":
        with torch.no_grad():
            exit_depth = depth - net.num_blocks + net.num_exit_blocks
            found = net(*inputs, exit_depth=exit_depth)
    else:
        tokens = tokens_after(net, inputs, depth)
        found = head(net, tokens, adapted(tokens.h, numbers))
    expected = error_by_hand(net, inputs, found, cfg_scale, cfg_channels)
    assert run.exits[STEP, depth] == pytest.approx(expected, rel=1e-4)
    depths = {depth} if form == "A" else {depth, depth + 1}
    assert set(run.exits) == {(step, d) for step in range(len(TIMES)) for d in depths}


@everywhere
def test_reuse_costs_nothing_in_a_network_that_always_adds_the_same(net):
    _, run = sample(recording_of(net), net)
    _, constant = sample(recording_of(net), constant_branches(net))
    assert min(run.reuse.values()) > 1e-4
    assert max(constant.reuse.values()) < 1e-8


# ---- batches, and what the fits do --------------------------------------------------------------


def runs_of(net, recording, *, seed=0, num=4, batch_size=4):
    noise, labels = starting_noise(seed, num, net.in_shape), balanced_labels(num, net.num_classes)
    found: list = []
    generate(
        net, recording, SOLVERS["dpm_solver"], noise, labels, batch_size, observe=found.append
    )
    return found


@everywhere
def test_two_batches_add_up_to_one(net):
    (whole,) = runs_of(net, recording_of(net))
    first, second = runs_of(net, recording_of(net), batch_size=3)
    assert (first.num_images, second.num_images, whole.num_images) == (3, 1, 4)
    for cell, error in whole.reuse.items():
        assert first.reuse[cell] + second.reuse[cell] == pytest.approx(error, rel=1e-3)
    for cell, error in whole.exits.items():
        assert first.exits[cell] + second.exits[cell] == pytest.approx(error, rel=1e-3)


@everywhere
def test_fits_lower_errors_and_overfit_few_images(net):
    """Maps have more numbers than these images have tokens; other images show it."""
    layout = recording_of(net).layout
    cells = frozenset((step, PREFIX, age) for step in (3, 5, 7) for age in (1, 2))
    (fit,) = runs_of(net, FitRecording(layout, cells), num=3, batch_size=3)
    fits = {
        "plain": None,
        "diagonal": {cell: fit_diagonal(fit.diagonal[cell]) for cell in cells},
        "map": {cell: fit_reuse_map(fit.maps[cell]) for cell in cells},
    }
    adapters = {depth: fit_adapter(sums) for depth, sums in fit.adapters.items()}

    def error(reuse, seed):
        recording = recording_of(net, reuse=reuse)
        (run,) = runs_of(net, recording, seed=seed, num=3, batch_size=3)
        return sum(run.reuse[cell] for cell in cells)

    own = {name: error(reuse, seed=0) for name, reuse in fits.items()}
    held_out = {name: error(reuse, seed=1) for name, reuse in fits.items()}
    assert own["map"] < own["diagonal"] < own["plain"]
    assert held_out["diagonal"] < held_out["plain"]
    assert held_out["map"] > 2 * own["map"]
    (plain,), (with_adapters,) = (
        runs_of(net, recording_of(net, adapters=numbers)) for numbers in (None, adapters)
    )
    assert sum(with_adapters.exits.values()) < sum(plain.exits.values())
