"""The calibration run that gathers for fits; what a calibration looks at."""

import itertools

import pytest
import torch

from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.plans.maps import diagonal_sums, map_sums
from schedsearch.methods.plans.recording import ErrorRecording, FitRecording, Layout
from tests.backbones.small_models import make_dit, make_uvit
from tests.methods.caches.cached_runs import NETS, SOLVERS, TIMES, sample, sample_plain
from tests.methods.plans.planned_runs import (
    NETS_WITH_VARIANCE,
    inputs_of,
    residual_of,
    tokens_after,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def layout_of(net, max_age=2):
    """Two prefixes and an exit."""
    return Layout(prefixes=(0, 3), exits=(net.num_blocks - 2,), max_age=max_age)


# ---- layouts ------------------------------------------------------------------------------------


@everywhere
def test_a_small_network_is_looked_at_everywhere(net):
    layout = Layout.of(net, 3)
    first_exit = 1 if net is NETS["dit"] else 5
    assert layout.prefixes == tuple(range(net.num_blocks))
    assert layout.exits == tuple(range(first_exit, net.num_blocks))
    assert layout.max_age == 3


@pytest.mark.parametrize("limit", [2, 5, 16, 27])
def test_a_large_network_is_looked_at_in_equal_distances(limit):
    net = make_dit(depth=28, hidden_size=8, num_heads=1)
    layout = Layout.of(net, 5, max_prefixes=limit)
    for found, low in ((layout.prefixes, 0), (layout.exits, 1)):
        assert len(found) == limit
        assert (found[0], found[-1]) == (low, 27)
        gaps = {after - before for before, after in itertools.pairwise(found)}
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1


def test_exits_of_a_large_uvit_lie_in_its_decoder():
    layout = Layout.of(make_uvit(depth=28, embed_dim=8, num_heads=1), 5, max_prefixes=4)
    assert layout.prefixes == (0, 9, 19, 28)
    assert layout.exits == (15, 19, 24, 28)


def test_networks_with_the_fewest_blocks():
    one = Layout.of(make_dit(depth=1), 2)
    assert (one.prefixes, one.exits) == ((0,), ())
    few = Layout.of(make_uvit(depth=2), 2)
    assert (few.prefixes, few.exits) == ((0, 1, 2), (2,))
    assert Layout.of(make_dit(), 2, max_prefixes=1).prefixes == (0,)


# ---- runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])
@pytest.mark.parametrize("net", NETS_WITH_VARIANCE.values(), ids=NETS_WITH_VARIANCE)
def test_recordings_sample_what_full_depth_samples(net, solver, cfg_scale):
    options = {"cfg_scale": cfg_scale, "solver": solver}
    plain, layout = sample_plain(net, **options), Layout.of(net, 2)
    for recording in (
        FitRecording(layout, frozenset({(4, 0, 2)})),
        ErrorRecording(layout=layout, cfg_scale=cfg_scale, channels=net.in_shape[0]),
    ):
        found, run = sample(recording, net, **options)
        assert torch.equal(found, plain)
        assert all((blocks == net.num_blocks).all() for blocks in run.blocks)


@everywhere
def test_sums_are_those_of_the_image_tokens(net):
    cells, layout = frozenset({(3, 0, 1), (5, 3, 2)}), layout_of(net)
    _, run = sample(FitRecording(layout, cells), net, cfg_scale=2.0)
    calls = inputs_of(net, cfg_scale=2.0)

    def image_tokens(h):
        return h[:, net.num_extras :].reshape(-1, net.width)

    def parts(step, prefix, age):
        h = image_tokens(tokens_after(net, calls[step], prefix).h)
        residual = image_tokens(residual_of(net, calls[step - age], prefix))
        return h, residual, image_tokens(tokens_after(net, calls[step], net.num_blocks).h)

    assert set(run.maps) == cells
    for cell in cells:
        h, residual, full = parts(*cell)
        assert len(h) == 6 * (net.in_shape[1] // net.patch_size) ** 2
        torch.testing.assert_close(run.diagonal[cell], diagonal_sums(h, residual, full))
        expected = map_sums(torch.cat([h, residual], dim=1), full - h - residual)
        torch.testing.assert_close(run.maps[cell], expected)
    (depth,) = layout.exits
    expected = 0
    for inputs in calls:
        h, full = (image_tokens(tokens_after(net, inputs, k).h) for k in (depth, net.num_blocks))
        expected = expected + map_sums(h, full - h)
    torch.testing.assert_close(run.adapters[depth], expected)


@everywhere
def test_every_cell_with_a_residual_of_its_age(net):
    _, run = sample(FitRecording(layout_of(net)), net)
    ages = [(step, age) for step in range(len(TIMES)) for age in (1, 2) if age <= step]
    assert set(run.diagonal) == {(step, prefix, age) for step, age in ages for prefix in (0, 3)}
    assert run.maps == {}
    assert set(run.adapters) == {net.num_blocks - 2}


@everywhere
def test_a_second_pass_gathers_for_maps_alone(net):
    cells = frozenset({(4, 0, 2), (2, 3, 1)})
    _, run = sample(FitRecording(layout_of(net), cells, simple=False), net)
    assert (set(run.maps), run.diagonal, run.adapters) == (cells, {}, {})


@everywhere
def test_two_batches_add_up_to_one(net):
    layout, cells = layout_of(net), frozenset({(4, 3, 2)})

    def runs(batch_size):
        found = []
        noise, labels = starting_noise(0, 4, net.in_shape), balanced_labels(4, net.num_classes)
        recording, solver = FitRecording(layout, cells), SOLVERS["dpm_solver"]
        generate(net, recording, solver, noise, labels, batch_size, observe=found.append)
        return found

    (whole,), (first, second) = runs(4), runs(2)
    for name in ("diagonal", "maps", "adapters"):
        sums = [getattr(run, name) for run in (first, second, whole)]
        assert set(sums[0]) == set(sums[2])
        for key, expected in sums[2].items():
            scale = float(expected.abs().max())
            found = sums[0][key] + sums[1][key]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * scale)


@everywhere
def test_only_residuals_of_the_last_steps_are_held(net):
    _, run = sample(FitRecording(layout_of(net)), net)
    patches = (net.in_shape[1] // net.patch_size) ** 2
    residual = 3 * (patches + net.num_extras) * net.width * 4
    assert run.held_bytes() == run.peak_bytes == 2 * 2 * residual
