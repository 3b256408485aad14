"""Step weights against a plan that reuses at one step, measured from outside."""

import pytest
import torch

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.guidance import GuidedDenoiser
from schedsearch.evaluation.sampling import (
    SeededStepNoise,
    balanced_labels,
    generate,
    starting_noise,
)
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.plans.step_weights import MOST_STEPS, _weighed, measure_step_weights
from tests.methods.caches.cached_runs import SOLVERS, TIMES
from tests.methods.plans.planned_runs import NETS_WITH_VARIANCE, plan_of

everywhere = pytest.mark.parametrize("net", NETS_WITH_VARIANCE.values(), ids=NETS_WITH_VARIANCE)
guidance = pytest.mark.parametrize(
    ("cfg_scale", "cfg_channels"), [(1.0, None), (2.0, None), (2.0, 1)]
)
both_solvers = pytest.mark.parametrize("solver", ["dpm_solver", "ddpm"])


def batch_of(net, num=3):
    return starting_noise(5, num, net.in_shape), balanced_labels(num, net.num_classes)


@torch.no_grad()
def weight_by_hand(net, solver, step, seed, **guided):
    """Squared change of the sample per squared error of the guided prediction, (N,)."""
    noise, labels = batch_of(net)
    full = ExitSchedule.flat(net.num_exit_blocks)
    plan = plan_of(" ".join("R0" if s == step else "F" for s in range(len(TIMES))))
    # Follow the undisturbed trajectory with both.
    denoisers = [GuidedDenoiser(net, method, solver, labels, **guided) for method in (full, plan)]
    errors = []

    def both(x, t):
        wanted, found = (denoiser(x, t) for denoiser in denoisers)
        errors.append((found - wanted).double().square().flatten(1).mean(1))
        return wanted

    solver.sample(both, noise, SeededStepNoise(seed, 0, noise))
    # Sample with each.
    images = [
        generate(net, method, solver, noise, labels, len(noise), seed=seed, **guided)
        for method in (full, plan)
    ]
    moved = (images[1] - images[0]).double().square().flatten(1).mean(1)
    return moved / errors[step]


@guidance
@both_solvers
@everywhere
def test_weights_by_hand(net, solver, cfg_scale, cfg_channels):
    guided = {"cfg_scale": cfg_scale, "cfg_channels": cfg_channels}
    found = measure_step_weights(net, SOLVERS[solver], *batch_of(net), seed=7, **guided)
    assert found.shape == (len(TIMES), 3)
    assert found.dtype == torch.float64
    assert (found[0] == 0).all()
    assert (found[1:] > 0).all()
    for step in (1, 5, len(TIMES) - 1):
        expected = weight_by_hand(net, SOLVERS[solver], step, 7, **guided)
        torch.testing.assert_close(found[step], expected, rtol=1e-3, atol=0)


@both_solvers
@everywhere
def test_a_weight_does_not_depend_on_the_other_images(net, solver):
    noise, labels = batch_of(net, 4)
    whole = measure_step_weights(net, SOLVERS[solver], noise, labels, cfg_scale=2.0)
    few = measure_step_weights(net, SOLVERS[solver], noise[:2], labels[:2], cfg_scale=2.0)
    torch.testing.assert_close(few, whole[:, :2], rtol=1e-3, atol=0)
    assert not torch.allclose(whole[1:, 0], whole[1:, 1], rtol=0.01)


def test_the_seed_draws_the_noise_of_a_stochastic_solver():
    net = NETS_WITH_VARIANCE["dit"]
    by_seed = [
        measure_step_weights(net, SOLVERS["ddpm"], *batch_of(net), seed=seed) for seed in (0, 0, 1)
    ]
    assert torch.equal(by_seed[0], by_seed[1])
    assert not torch.equal(by_seed[0], by_seed[2])


def test_steps_that_reuse_predicts_exactly_weigh_nothing():
    untrained = DiT(8, 2, 2, 16, 2, 4, num_classes=7, learn_sigma=False)  # its blocks add nothing
    found = measure_step_weights(untrained, SOLVERS["dpm_solver"], *batch_of(untrained))
    assert (found == 0).all()


def test_many_steps_are_weighed_at_some_and_interpolated() -> None:
    assert _weighed(20) == list(range(1, 20))
    many = _weighed(1000)
    assert (many[0], many[-1], len(set(many))) == (1, 999, MOST_STEPS)
