"""The calibration of Block Caching: changes, plans, and scale-shift by least squares."""

import itertools

import pytest
import torch

from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.block_calibration import (
    ChangeRecording,
    ScaleShiftRecording,
    fit_scale_shift,
    mean_changes,
    plan_from_changes,
)
from tests.methods.caches.cached_runs import (
    NETS,
    TIMES,
    constant_branches,
    sample,
    sample_plain,
)

everywhere = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def attention_outputs(net, **options):
    """Outputs of every attention at full depth, (S, L, N, T, D), taken with hooks."""
    outputs = []
    modules = [m for name, m in net.named_modules() if name.endswith("attn")]
    handles = [m.register_forward_hook(lambda m, i, o: outputs.append(o)) for m in modules]
    sample_plain(net, **options)
    for handle in handles:
        handle.remove()
    return torch.stack(outputs).unflatten(0, (len(TIMES), net.num_blocks))


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])
@everywhere
def test_recordings_sample_at_full_depth(net, solver, cfg_scale):
    expected = sample_plain(net, solver=solver, cfg_scale=cfg_scale)
    plan = plan_from_changes(torch.ones(len(TIMES), net.num_blocks), 2.0)
    for method in (ChangeRecording(), ScaleShiftRecording(plan)):
        found, run = sample(method, net, solver=solver, cfg_scale=cfg_scale)
        assert torch.equal(found, expected)
        assert all((blocks == net.num_blocks).all() for blocks in run.blocks)


def test_changes_are_relative_l1_averaged_over_rows():
    net = NETS["dit"]
    runs, total = [], torch.zeros(len(TIMES), net.num_blocks)
    for seed, num in ((0, 3), (1, 1)):
        runs.append(sample(ChangeRecording(), net, num=num, seed=seed)[1])
        outputs = attention_outputs(net, num=num, seed=seed)
        moved = (outputs[1:] - outputs[:-1]).abs().sum((3, 4))
        total[1:] += (moved / outputs[1:].abs().sum((3, 4))).sum(2)
    changes = mean_changes(runs)
    assert (changes[0] == 0).all()
    assert (changes[1:] > 0).all()
    torch.testing.assert_close(changes.float(), total / 4)


def test_what_never_changes_is_reused_even_at_threshold_0():
    net = constant_branches(NETS["dit"])
    changes = mean_changes([sample(ChangeRecording(), net)[1]])
    assert (changes == 0).all()
    assert plan_from_changes(changes, 0.0)[1:] == ((False,) * 5,) * (len(TIMES) - 1)


def test_a_plan_recomputes_when_changes_add_up():
    changes = torch.tensor([[9.0, 9.0], [0.5, 0.3], [0.25, 0.3], [0.5, 0.3], [0.25, 0.5]])
    plan = plan_from_changes(changes, 0.75)
    assert [row[0] for row in plan] == [True, False, False, True, False]
    assert [row[1] for row in plan] == [True, False, False, True, False]
    assert plan_from_changes(changes, 0.0) == ((True, True),) * 5


def test_a_larger_threshold_reuses_a_superset_of_cells():
    # NOTE: Holds for constant changes and periods that divide each other.
    changes = torch.ones(9, 3)
    reused = [~torch.tensor(plan_from_changes(changes, delta)) for delta in (0.5, 1.5, 3.5, 9.0)]
    for small, large in itertools.pairwise(reused):
        assert (large | ~small).all()
        assert large.sum() > small.sum()


def cached_and_fresh(net, plan, **options):
    """Per reused cell the output that the plan would reuse, and the fresh one."""
    outputs = attention_outputs(net, **options)
    cells = {}
    for block in range(net.num_blocks):
        for step in range(len(TIMES)):
            if plan[step][block]:
                kept = outputs[step, block]
            else:
                cells[step, block] = kept, outputs[step, block]
    return cells


@everywhere
def test_scale_and_shift_never_raise_the_error_of_a_reused_cell(net):
    changes = mean_changes([sample(ChangeRecording(), net)[1]])
    plan = plan_from_changes(changes, float(changes[1:].median()))
    recordings = [sample(ScaleShiftRecording(plan), net, seed=seed)[1] for seed in (0, 1)]
    fitted = fit_scale_shift(recordings)
    cells = [cached_and_fresh(net, plan, seed=seed) for seed in (0, 1)]
    assert cells[0]
    gains = []
    for cell in cells[0]:
        cached, fresh = (torch.cat(both) for both in zip(*(c[cell] for c in cells), strict=True))
        scale, shift = fitted[cell]
        plain = ((fresh - cached) ** 2).sum((0, 1))
        corrected = ((fresh - scale * cached - shift) ** 2).sum((0, 1))
        assert (corrected <= plain * 1.0001 + 1e-6).all()
        # The optimum: the error is uncorrelated with what is known.
        error = fresh - scale * cached - shift
        assert error.mean((0, 1)).abs().max() < 1e-4
        assert (error * cached).mean((0, 1)).abs().max() < 1e-4
        gains.append(float(corrected.sum() / plain.sum()))
    assert min(gains) < 0.9
    assert torch.equal(
        fitted[torch.tensor(plan)][:, 0], torch.ones(sum(map(sum, plan)), net.width)
    )
    images, _ = sample(BlockCache(plan, parts=("attention",), scale_shift=fitted), net)
    assert images.isfinite().all()


def test_a_constant_output_is_fitted_exactly():
    net = constant_branches(NETS["dit"])
    plan = plan_from_changes(torch.ones(len(TIMES), 5), 99.0)
    fitted = fit_scale_shift([sample(ScaleShiftRecording(plan), net)[1]])
    assert torch.equal(fitted[:, :, 0], torch.ones_like(fitted[:, :, 0]))
    assert fitted[:, :, 1].abs().max() < 1e-6


def test_a_recording_needs_a_plan_for_its_steps():
    plan = plan_from_changes(torch.ones(3, 5), 99.0)
    with pytest.raises(ConfigError, match="is for 3 solver steps, but the solver takes 9"):
        sample(ScaleShiftRecording(plan), NETS["dit"])
