"""T-Stitch: two networks in one sampling run."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.backbones.pruning import keep_blocks
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers.dpm_solver import MultistepDPMSolver
from schedsearch.evaluation.latency_protocol import LatencyProtocol
from schedsearch.evaluation.method_latency import TimedMethod, measure_methods
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import ConfigError
from schedsearch.methods.stitch import Stitch, Stitched
from schedsearch.protocols import Method, ObservedCall
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.backbones.small_models import DEPTH, make_dit, make_uvit

SOLVER = MultistepDPMSolver(DDPMProcess(), (999.0, 750.0, 500.0, 250.0, 50.0))
LARGE = make_dit().eval()
SMALL = keep_blocks(LARGE, [0, 3])
BOTH = Stitched(LARGE, SMALL)


def sample(net: Any, method: Method, cfg_scale: float = 1.0) -> tuple[Tensor, list[Any]]:
    """Images, and the run that made them."""
    runs: list[Any] = []
    images = generate(
        net,
        method,
        SOLVER,
        starting_noise(3, 2, net.in_shape),
        balanced_labels(2, net.num_classes),
        2,
        cfg_scale=cfg_scale,
        observe=runs.append,
    )
    return images, runs


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_the_ends_are_one_network_alone(cfg_scale: float) -> None:
    for share, net in ((0.0, LARGE), (1.0, SMALL)):
        flat = ExitSchedule.flat(net.num_exit_blocks)
        alone, _ = sample(net, flat, cfg_scale)
        assert torch.equal(sample(BOTH, Stitch(share), cfg_scale)[0], alone)


def test_two_equal_networks_make_the_images_of_one() -> None:
    alone, _ = sample(LARGE, ExitSchedule.flat(DEPTH))
    twins = Stitched(LARGE, make_dit().eval())
    for share in (0.0, 0.4, 1.0):
        assert torch.equal(sample(twins, Stitch(share))[0], alone)


@pytest.mark.parametrize(("share", "num_small"), [(0.0, 0), (0.2, 1), (0.6, 3), (0.9, 4), (1, 5)])
def test_the_small_network_takes_the_noise(share: float, num_small: int) -> None:
    images, (run,) = sample(BOTH, Stitch(share))
    assert isinstance(run, ObservedCall)
    assert [blocks.tolist() for blocks in run.blocks] == (
        [[2.0, 2.0]] * num_small + [[5.0, 5.0]] * (5 - num_small)
    )
    assert run.held_bytes() == 0
    assert images.isfinite().all()
    assert torch.equal(sample(BOTH, Stitch(share))[0], images)


def test_blocks_of_encoder_and_middle_count_in_a_uvit() -> None:
    large = make_uvit().eval()
    _, (run,) = sample(Stitched(large, keep_blocks(large, [0])), Stitch(0.6))
    assert [float(blocks[0]) for blocks in run.blocks] == [3.0, 3.0, 3.0, 9.0, 9.0]


def test_as_a_backbone_it_is_the_large_network() -> None:
    assert BOTH.num_exit_blocks == DEPTH
    assert (BOTH.in_shape, BOTH.num_classes) == (LARGE.in_shape, LARGE.num_classes)
    assert null_label_of(BOTH) == LARGE.null_label
    assert learns_variance(BOTH)
    flat = ExitSchedule.flat(DEPTH)
    assert torch.equal(sample(BOTH, flat)[0], sample(LARGE, flat)[0])


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"input_size": 4}, "in_shape"),
        ({"num_classes": 3}, "num_classes"),
        ({"class_dropout_prob": 0.0}, "null_label"),
        ({"learn_sigma": False}, "learn_sigma"),
    ],
)
def test_networks_of_different_tasks_are_refused(other: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"share a sampling run need the same {name}, got "):
        Stitched(LARGE, make_dit(**other))


def test_one_network_is_not_enough() -> None:
    with pytest.raises(ConfigError, match=r"needs two networks, but got one DiT\. Load the"):
        Stitch(0.5).begin(LARGE, SOLVER.times, guided=False)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_beyond_all_steps_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"share must lie in \[0, 1\], got"):
        Stitch(share)


def test_its_weights_hold_both_networks() -> None:
    again = Stitched(make_dit(), keep_blocks(make_dit(), [1, 2])).eval()
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    again.load_state_dict(BOTH.state_dict())
    assert torch.equal(sample(again, Stitch(0.6))[0], sample(BOTH, Stitch(0.6))[0])


@pytest.mark.timing
def test_time_is_affine_in_the_share() -> None:
    solver = MultistepDPMSolver(DDPMProcess(), tuple(float(t) for t in range(950, 0, -50)))
    large = make_dit(hidden_size=96, depth=8).eval()
    both = Stitched(large, keep_blocks(large, [0, 7]))
    protocol = LatencyProtocol(
        device="cpu",
        dtype="float32",
        batch=8,
        threads=1,
        solver="dpm_solver",
        num_steps=len(solver.times),
        spacing="linspace",
        cfg_scale=1.0,
    )
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    timed = {f"{s}": TimedMethod(net=both, method=Stitch(s), solver=solver) for s in shares}
    found = measure_methods(timed, large, solver, protocol, repeats=9)
    ratios = np.array([found[f"{share}"].ratio for share in shares])
    steps = np.round(np.array(shares) * len(solver.times))
    slope, start = np.polyfit(steps, ratios, 1)
    assert start == pytest.approx(1.0, abs=0.1)
    assert slope < 0
    assert np.abs(ratios - (start + slope * steps)).max() < 0.05
