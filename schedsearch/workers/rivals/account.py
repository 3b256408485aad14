"""What a sampling run of a method does: blocks, multiply-accumulates, numbers it adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from schedsearch.evaluation.flops import count_run
from schedsearch.evaluation.latency import cost_times
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.schedules.exit_schedule import ExitSchedule

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols import Backbone, Method, NetworkCall, Solver
    from schedsearch.workers.workbench import Workbench

MACS_IMAGES = 4
"""Images of the run whose multiply-accumulates are counted, if images do not change them."""


def share_of_blocks(
    bench: Workbench, net: Backbone, method: Method, solver: Solver, blocks: list[Tensor]
) -> float:
    """Blocks run / blocks of full depth with the space's solver."""
    everything = num_blocks_of(bench.backbone) * len(cost_times(bench.solver))
    if blocks:
        return sum(float(depths.float().mean()) for depths in blocks) / everything
    assert isinstance(method, ExitSchedule)
    always = num_blocks_of(net) - net.num_exit_blocks
    return sum(always + depth for depth in method.visited(cost_times(solver))) / everything


def blocks_by_call(runs: list[Any]) -> list[Tensor]:
    """Blocks of all images by call, (N,) each, joined over batches."""
    if not runs:
        return []
    return [torch.cat(call) for call in zip(*(run.blocks for run in runs), strict=True)]


def num_blocks_of(net: Backbone) -> int:
    """All blocks of a network, encoder of a U-ViT included."""
    return int(getattr(net, "num_blocks", net.num_exit_blocks))


def sampled(
    bench: Workbench, net: Backbone, method: Method, solver: Solver, seed: int, num: int
) -> tuple[Tensor, list[NetworkCall]]:
    """Sample images by the study's protocol, and return the method's runs, one per batch."""
    runs: list[NetworkCall] = []
    images = generate(
        net,
        method,
        solver,
        starting_noise(seed, num, net.in_shape),
        balanced_labels(num, net.num_classes),
        bench.settings.evaluation.batch_size,
        cfg_scale=bench.settings.solver.cfg_scale,
        cfg_channels=bench.settings.solver.cfg_channels,
        seed=seed,
        observe=runs.append,
    )
    return images, runs


def macs_of(
    bench: Workbench, net: Backbone, method: Method, solver: Solver, num: int = MACS_IMAGES
) -> int:
    """Multiply-accumulates of one image's sampling run, the mean over ``num`` images."""
    seed = bench.settings.evaluation.seed
    return count_run(lambda: sampled(bench, net, method, solver, seed, num), num)


def numbers_in(weights: Path | None) -> int:
    """Numbers in a file that a method adds."""
    if weights is None:
        return 0
    return sum(tensor.numel() for tensor in load_file(weights).values())
