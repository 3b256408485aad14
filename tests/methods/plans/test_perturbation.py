"""Full-depth runs that are repeated with the error of plain reuse at one step."""

import pytest
import torch

from schedsearch.methods.plans.perturbation import Disturbed, OutputRecording
from tests.methods.caches.cached_runs import NETS, TIMES, sample, sample_plain, watch
from tests.methods.plans.planned_runs import (
    NETS_WITH_VARIANCE,
    head,
    inputs_of,
    plan_of,
    relative_close,
    residual_of,
    tokens_after,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
with_variance = pytest.mark.parametrize("net", NETS_WITH_VARIANCE.values(), ids=NETS_WITH_VARIANCE)
guided_or_not = pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
both_solvers = pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])


@guided_or_not
@with_variance
def test_a_recording_keeps_predictions_and_misses_of_reuse_without_blocks(net, cfg_scale):
    images, run = sample(OutputRecording(), net, cfg_scale=cfg_scale)
    assert torch.equal(images, sample_plain(net, cfg_scale=cfg_scale))
    calls = inputs_of(net, cfg_scale=cfg_scale)
    assert len(run.outputs) == len(run.misses) == len(TIMES)
    assert run.misses[0].abs().max() == 0
    for step, inputs in enumerate(calls):
        with torch.no_grad():
            output = net(*inputs, exit_depth=net.num_exit_blocks)
        assert torch.equal(run.outputs[step], output)
        if step:
            tokens = tokens_after(net, inputs, 0)
            reused = head(net, tokens, tokens.h + residual_of(net, calls[step - 1], 0))
            relative_close(run.misses[step], reused - output, 1e-4)


@everywhere
def test_what_a_recording_holds(net):
    _, run = sample(OutputRecording(), net)
    patches = (net.in_shape[1] // net.patch_size) ** 2
    tokens = 3 * (patches + net.num_extras) * net.width * 4
    pixels = sum(output.numel() * 4 for output in run.outputs)
    assert run.held_bytes() == run.peak_bytes == 2 * pixels + tokens


@both_solvers
@guided_or_not
@pytest.mark.parametrize("step", [1, 4, len(TIMES) - 1])
@with_variance
def test_a_step_disturbed_by_nothing_is_full_depth(net, step, cfg_scale, solver):
    options = {"cfg_scale": cfg_scale, "solver": solver}
    plain, recorded = sample(OutputRecording(), net, **options)
    recorded.misses[step] = torch.zeros_like(recorded.misses[step])
    found, run = sample(Disturbed(recorded, step), net, **options)
    assert torch.equal(found, plain)
    full, rows = float(net.num_blocks), len(recorded.outputs[0])
    assert [blocks.tolist() for blocks in run.blocks] == [
        [full if s > step else 0.0] * rows for s in range(len(TIMES))
    ]


@everywhere
def test_the_steps_up_to_the_disturbed_one_run_no_block(net):
    _, recorded = sample(OutputRecording(), net)
    ran: list[int] = []
    handles = watch(net, "mlp", lambda index, h: ran.append(len(h)))
    _, run = sample(Disturbed(recorded, 5), net)
    for handle in handles:
        handle.remove()
    assert sum(ran) == torch.stack(run.blocks).sum() == 3 * 3 * net.num_blocks


@both_solvers
@guided_or_not
@pytest.mark.parametrize("step", [1, 4, len(TIMES) - 1])
@with_variance
def test_a_disturbed_step_is_a_plan_that_reuses_there(net, step, cfg_scale, solver):
    options = {"cfg_scale": cfg_scale, "solver": solver}
    text = ["F"] * len(TIMES)
    text[step] = "R0"
    expected, _ = sample(plan_of(" ".join(text)), net, **options)
    plain, recorded = sample(OutputRecording(), net, **options)
    found, _ = sample(Disturbed(recorded, step), net, **options)
    relative_close(found, expected, 1e-5)
    assert not torch.allclose(found, plain, rtol=0, atol=1e-4 * float(plain.abs().max()))
