"""Multiply-accumulates of whole sampling runs."""

from typing import Any

import pytest
import torch

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers.dpm_solver import MultistepDPMSolver
from schedsearch.evaluation.flops import count_flops, count_run
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.protocols import Method
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.backbones.small_models import make_dit, make_uvit

NETS: dict[str, Any] = {"dit": make_dit().eval(), "uvit": make_uvit().eval()}
SOLVER = MultistepDPMSolver(DDPMProcess(), (999.0, 700.0, 400.0, 100.0))
SCHEDULES = (ExitSchedule.flat(4), ExitSchedule((4, 4, 3, 3, 2, 2, 2, 1, 1, 1)))

nets = pytest.mark.parametrize("name", NETS)


def macs(net: Any, method: Method, num: int = 2, batch: int = 2, cfg_scale: float = 1.0) -> int:
    noise, labels = starting_noise(0, num, net.in_shape), balanced_labels(num, net.num_classes)
    return count_run(
        lambda: generate(net, method, SOLVER, noise, labels, batch, cfg_scale=cfg_scale), num
    )


@nets
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_costs_what_its_calls_cost(name: str, schedule: ExitSchedule) -> None:
    net = NETS[name]
    calls = count_flops(net).calls
    expected = sum(calls[depth].macs for depth in schedule.visited(SOLVER.times))
    assert macs(net, schedule) == expected
    assert macs(net, schedule, num=3) == expected, "in two batches, per image"
    assert macs(net, schedule, num=1, batch=1) == expected


def test_guidance_doubles() -> None:
    net, schedule = NETS["dit"], SCHEDULES[1]
    assert macs(net, schedule, cfg_scale=2.0) == 2 * macs(net, schedule)


def test_what_a_method_skips_does_not_count() -> None:
    net, full = NETS["dit"], count_flops(NETS["dit"])
    never = SimilarityExit(threshold=2.0)
    at_once = SimilarityExit(threshold=-2.0, min_blocks=2)
    assert macs(net, never) == 4 * full.calls[5].macs
    assert macs(net, at_once) == 4 * full.calls[2].macs
    # FORA every 2: adaLN, norms and output layer still run at all four steps.
    cached = macs(net, BlockCache(every=2))
    assert 2 * full.calls[5].macs < cached < 4 * full.calls[5].macs


@nets
@torch.inference_mode()
def test_it_counts_inside_inference_mode(name: str) -> None:
    assert macs(NETS[name], SCHEDULES[0]) == 4 * count_flops(NETS[name]).calls[4].macs
